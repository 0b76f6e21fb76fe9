"""Tiny test sets on disk, and a restorer that needs no model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage
from torch import Tensor

from autodir.config import RestoreOptions
from autodir.prompts import load_taxonomy
from autodir.records import Diagnosis, Image, Mixture, Report, Restoration, Step, VerdictKind


class FakeRestorer:
    """Takes every dark photo for underexposed and doubles its values; anything else is clean."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.verdict: VerdictKind = "kept"

    @property
    def info(self) -> Mapping[str, Any]:
        return {"name": "fake", "model_sha256": "0" * 64}

    def diagnose(self, source: Image, /) -> Diagnosis:
        dark = float(source.pixels.mean()) < 0.3
        taxonomy = load_taxonomy()
        main = taxonomy.get("underexposure") if dark else None
        named = "underexposure" if dark else "no"
        return Diagnosis(
            probabilities={key: float(key == named) for key in taxonomy.keys},
            presence={one.key: float(one.key == named) for one in taxonomy},
            main=main,
            mixture=Mixture(phrases=("fake",), weights=(1.0,)),
        )

    def restore(self, source: Image, options: RestoreOptions, /) -> Restoration:
        self.calls.append(("restore", options))
        diagnosis = self.diagnose(source)
        pixels, steps = source.pixels, []
        for key in options.only or ([] if diagnosis.main is None else [diagnosis.main.key]):
            pixels = (pixels * 2).clamp(0, 1)
            steps.append(
                Step(
                    index=len(steps),
                    degradation=key,
                    probability=1.0,
                    prompt=None,
                    verdict=self.verdict,
                    why="",
                    seconds=0.0,
                )
            )
        report = Report(
            clean=not steps,
            steps=tuple(steps),
            stopped="",
            first=diagnosis,
            last=diagnosis,
            options={},
            provenance={},
            seconds=0.0,
        )
        return Restoration(image=source.with_pixels(pixels), report=report)

    def apply_parts(
        self,
        pixels: Tensor,
        degradation_key: str,
        /,
        *,
        diffusion: bool = True,
        correction: bool = True,
        structure_weight: float | None = None,
        seed: int = 0,
    ) -> Tensor:
        self.calls.append(("parts", degradation_key, diffusion, correction))
        return (pixels * (1.5 if diffusion else 1) * (1.3 if correction else 1)).clamp(0, 1)


@pytest.fixture
def restorer() -> FakeRestorer:
    return FakeRestorer()


def texture(height: int, width: int, seed: int, scale: float = 1.0) -> np.ndarray:
    """(H, W, 3) of a ramp with some grain, in 0..255·scale."""
    generator = np.random.default_rng(seed)
    ramp = np.linspace(40, 200, width)[None, :, None] * np.ones((height, 1, 3))
    return (ramp + generator.normal(0, 8, (height, width, 3))).clip(0, 255) * scale


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    PillowImage.fromarray(pixels.round().astype(np.uint8)).save(path)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """``eval/`` with a dark paired set, a small ×4 set, a real one and two clean ones."""
    root = tmp_path / "data"
    for index in range(3):
        bright = texture(24, 32, index)
        save(root / f"eval/LOL_eval15/target/{index}.png", bright)
        save(root / f"eval/LOL_eval15/input/{index}.png", bright * 0.4)
        save(root / f"eval/Rain_real/input/{index}.png", bright)
    for index in range(5):
        save(root / f"eval/CBSD68/target/{index}.png", texture(20, 28, 10 + index))
    save(root / "eval/Kodak24/target/a.png", texture(20, 28, 20))
    save(root / "eval/Set5_x4/target/a.png", texture(32, 48, 30))
    save(root / "eval/Set5_x4/input/a.png", texture(32, 48, 30)[1::4, 1::4])
    return root


@pytest.fixture
def noisy() -> Tensor:
    """(1, 3, 40, 48): a ramp with white noise of σ 20."""
    generator = torch.Generator().manual_seed(0)
    ramp = torch.linspace(0.2, 0.8, 48).expand(1, 3, 40, 48)
    return (ramp + torch.randn(ramp.shape, generator=generator) * (20 / 255)).clamp(0, 1)
