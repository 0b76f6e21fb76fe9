"""Generated photos and pairs, and a tiny model that a test may train."""

import copy
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

from autodir.checkpoint import Model
from autodir.training.batches import Batches
from autodir.training.data import PairPool, PhotoPool


def write_photo(path: Path, height: int, width: int, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    PIL.Image.fromarray(coarse).resize((width, height), PIL.Image.Resampling.BICUBIC).save(path)


@pytest.fixture(scope="session")
def photo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three photos of 60 × 80 pixels, of which none is held out."""
    folder = tmp_path_factory.mktemp("photos")
    for index, name in enumerate(("a", "b", "c")):
        write_photo(folder / f"{name}.png", 60, 80, index)
    return folder


@pytest.fixture(scope="session")
def pair_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Marked noise pairs: every degraded sample is 51, every target sample 102."""
    folder = tmp_path_factory.mktemp("pairs")
    for role, value in (("input", 51), ("target", 102)):
        (folder / "noise" / role).mkdir(parents=True)
        plain = PIL.Image.new("RGB", (70, 50), (value, value, value))
        plain.save(folder / "noise" / role / "pair.png")
    return folder


@pytest.fixture
def model(tiny_model: Model) -> Model:
    """A copy of the tiny model that a test may train."""
    trained = copy.deepcopy(tiny_model)
    for module in trained.modules.values():
        module.train().requires_grad_(True)
    return trained


@pytest.fixture
def batches(photo_folder: Path, tiny_model: Model) -> Batches:
    return Batches(PhotoPool(photo_folder), PairPool(None), tiny_model.taxonomy)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
