"""The sharpening stage: notes on spectra, what they tell of a filter, what is learnt from them."""

import copy
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from autodir.checkpoint import Model
from autodir.correction.sharpening import Sharpness
from autodir.correction.spectrum import GAINS, SIDE, hann, kernel_of, windows_of
from autodir.errors import CheckpointError, ContractError
from autodir.imaging.convolution import convolve
from autodir.prompts import load_phrases
from autodir.synthesis.filters import gaussian
from autodir.training import sharpening as stage
from autodir.training.batches import Batches
from autodir.training.instructions import Instructions
from autodir.training.loop import LoopOptions
from autodir.training.sharpening import note, squared_error, train_sharpening

OPTIONS = LoopOptions(budget=0.1)


@pytest.fixture
def told(model: Model) -> Instructions:
    torch.manual_seed(0)
    model.eval()
    config = {"embed_dim": model.clip.embed_dim, "hidden": 16, "members": 1}
    model.scm.add_sharpening(config).train().requires_grad_(True)
    return Instructions(model.clip, model.taxonomy, load_phrases())


def test_stage_changes_the_sharpening_alone(
    model: Model, batches: Batches, told: Instructions, tmp_path: Path
) -> None:
    before = {name: copy.deepcopy(part.state_dict()) for name, part in model.modules.items()}
    gained = train_sharpening(model.scm, batches, told, OPTIONS, tmp_path / "run")
    changed = {
        f"{name}.{key}".split("sharpening")[0]
        for name, part in model.modules.items()
        for key, value in part.state_dict().items()
        if not torch.equal(before[name][key], value)
    }
    assert changed == {"scm."}
    assert gained.keys() == {"blur"}
    assert (tmp_path / "run-blur" / stage.NOTES).is_file()
    prompts = told.encoder.encode([model.taxonomy.prompt(key) for key in ("blur", "noise")])
    assert model.scm.sharpening is not None
    with torch.no_grad():
        blur, noise = model.scm.sharpening.shares(prompts.pooled)[:, 0].tolist()
    assert blur > 2 * noise


def test_what_is_learnt_of_some_photos_holds_for_others(model: Model, told: Instructions) -> None:
    generator = torch.Generator().manual_seed(5)
    coarse = torch.rand(48, 3, 64, 64, generator=generator)
    sharp = torch.nn.functional.interpolate(coarse, size=(SIDE, SIDE), mode="nearest")
    blurred = gaussian(sharp, 0.5 + 2 * torch.rand(48, generator=generator))
    notes = note(blurred, sharp)
    known, unknown = ({k: v[rows] for k, v in notes.items()} for rows in (slice(40), slice(40, 48)))
    assert model.scm.sharpening is not None
    expert = model.scm.sharpening.experts["blur"]
    assert isinstance(expert, Sharpness)
    fit = stage.Fit(rate=1e-3, decay=0.05, epochs=40, step=8)
    expert.standardize(known["statistics"])
    stage.learn(expert, known, squared_error, fit, 1e-4, 0)
    with torch.no_grad():
        after = squared_error(expert(expert.standard(unknown["statistics"])), unknown)
    gained = 10 * (unknown["energy"] / after).log10()
    assert float(gained.mean()) > 0.5
    assert float(gained.min()) > 0


def test_the_error_of_a_filter_is_told_by_sums() -> None:
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(2, 3, SIDE, 300, generator=generator)
    degraded = 0.5 * target + 0.25
    raised = 0.3 * torch.randn(2, GAINS, generator=generator)
    notes = note(degraded, target)
    nothing = squared_error(torch.zeros(2, GAINS), notes)
    weight = hann(degraded.device)
    missing = (windows_of(target) - windows_of(degraded)) * weight
    expected = missing.square().mean((1, 2, 3, 4)) * SIDE**2 / weight.square().sum()
    torch.testing.assert_close(nothing, expected, rtol=1e-4, atol=1e-7)
    # A filter of the windows, whose weight fades at their edges, is nearly one of the photo.
    mean = degraded.mean((2, 3), keepdim=True)
    seen = (windows_of(degraded) - mean[:, None]) * weight
    kernels = kernel_of(raised)
    filtered = [
        convolve(seen[:, index], kernels, "zero") - seen[:, index] for index in range(seen.shape[1])
    ]
    error = missing - torch.stack(filtered, dim=1)
    expected = error.square().mean((1, 2, 3, 4)) * SIDE**2 / weight.square().sum()
    torch.testing.assert_close(squared_error(raised, notes), expected, rtol=0.03, atol=1e-6)


def test_notes_of_another_kind_are_refused(
    model: Model, batches: Batches, told: Instructions, tmp_path: Path
) -> None:
    path = tmp_path / "run-blur" / stage.NOTES
    path.parent.mkdir()
    save_file({"statistics": torch.zeros(3, 7)}, path)
    options = LoopOptions(budget=0.1, resume=True)
    with pytest.raises(CheckpointError, match="other statistics"):
        train_sharpening(model.scm, batches, told, options, tmp_path / "run")


def test_corrector_without_a_sharpening_is_refused(
    model: Model, batches: Batches, tmp_path: Path
) -> None:
    instructions = Instructions(model.clip, model.taxonomy, load_phrases())
    with pytest.raises(ContractError, match="no sharpening"):
        train_sharpening(model.scm, batches, instructions, OPTIONS, tmp_path)
