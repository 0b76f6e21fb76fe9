"""The published techniques together: each is off by default, each combination runs."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor
from typer.main import get_command

from autodir.checkpoint import Model
from autodir.cli.app import app
from autodir.config import SAMPLER_NAMES, TRAINING_PARTS, RestoreOptions, flag_name
from autodir.diffusion.model import LatentDiffusion
from autodir.diffusion.wrapping import FeatureWrapping
from autodir.errors import CheckpointError, ConfigError
from autodir.pipeline import Restorer
from autodir.records import Mixture, NoiseSource
from autodir.techniques import TechniqueOptions

MIXTURE = Mixture(phrases=("A photo",), weights=(1.0,))
FREE: dict[str, Any] = {"guard": False, "structure_weight": 0.0, "max_steps": 1}


def photo(height: int = 40, width: int = 56) -> Tensor:
    """Smooth, since guidance leaves texture alone."""
    coarse = torch.rand(1, 3, 3, 4, generator=torch.Generator().manual_seed(3))
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")


@pytest.fixture(scope="module")
def diffusion(tiny_model: Model) -> LatentDiffusion:
    """The tiny model's, with fusions that change something."""
    wrapping = FeatureWrapping.beside(tiny_model.autoencoder)
    generator = torch.Generator().manual_seed(6)
    with torch.no_grad():
        for parameter in wrapping.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    complete = dataclasses.replace(tiny_model, wrapping=wrapping)
    return complete.latent_diffusion()


def sample(diffusion: LatentDiffusion, values: dict[str, Any], **options: Any) -> Tensor:
    return diffusion.sample(
        diffusion.condition(photo(), MIXTURE), NoiseSource(1), steps=2,
        techniques=TechniqueOptions(**values), **options,
    )  # fmt: skip


@pytest.mark.parametrize("sampler", SAMPLER_NAMES)
@pytest.mark.parametrize("tile", [None, 4])
def test_every_combination_runs_and_stays_displayable(
    diffusion: LatentDiffusion, sampler: str, tile: int | None
) -> None:
    texts, regions, spaces, weights = (1.0, 3.0), (0.0, 0.5), ("pixel", "latent"), (0.0, 0.7)
    for text, region, space, weight in itertools.product(texts, regions, spaces, weights):
        values = {"guidance_region": region, "guidance_space": space, "fidelity": weight}
        result = sample(diffusion, values, sampler=sampler, guidance_text=text, tile=tile)
        assert result.shape == photo().shape
        assert bool(torch.isfinite(result).all())
        assert 0 <= float(result.min()) <= float(result.max()) <= 1


@pytest.mark.parametrize("sampler", SAMPLER_NAMES)
def test_neutral_settings_are_identities(diffusion: LatentDiffusion, sampler: str) -> None:
    plain = diffusion.sample(
        diffusion.condition(photo(), MIXTURE), NoiseSource(1), steps=2, sampler=sampler
    )
    neutral = {
        "guidance_region": 0.0, "guidance_space": "latent", "guidance_repeat": 3, "fidelity": 0.0,
    }  # fmt: skip
    assert torch.equal(sample(diffusion, neutral, sampler=sampler), plain)
    one_tile = sample(diffusion, neutral, sampler=sampler, tile=64)
    torch.testing.assert_close(one_tile, plain, rtol=0, atol=1e-5)
    outside = {"guidance_region": 5.0, "guidance_from": 0.0001, "guidance_until": 0.00005}
    assert torch.equal(sample(diffusion, outside, sampler=sampler), plain)


def test_each_setting_changes_the_result(diffusion: LatentDiffusion) -> None:
    plain = sample(diffusion, {})
    for values in (
        {"guidance_region": 1.0},
        {"guidance_region": 1.0, "guidance_space": "latent"},
    ):
        changed = sample(diffusion, values)
        assert bool(torch.isfinite(changed).all())
        assert not torch.equal(changed, plain), values
    clean = sample(diffusion, {}, sampler="dreamclean")
    for values in ({"gamma": 0.5}, {"corrections": 3}, {"inversion_depth": 0.6},
                   {"inversion_iterations": 2}):  # fmt: skip
        assert not torch.equal(sample(diffusion, values, sampler="dreamclean"), clean), values


def test_dreamclean_hears_neither_text_nor_guidance(diffusion: LatentDiffusion) -> None:
    plain = sample(diffusion, {}, sampler="dreamclean")
    guided = sample(diffusion, {}, sampler="dreamclean", guidance_text=5.0)
    assert torch.equal(plain, guided)


def test_a_model_without_fusions_says_so(tiny_model: Model) -> None:
    with pytest.raises(ConfigError, match="fidelity"):
        sample(tiny_model.latent_diffusion(), {"fidelity": 0.5})


@pytest.fixture
def restorer(tiny_model: Model) -> Restorer:
    return Restorer(tiny_model, {"model": "tiny"})


def restored(restorer: Restorer, **values: Any) -> Tensor:
    return restorer.restore(photo()[0], RestoreOptions(**FREE, **values)).image.pixels


def test_a_first_stage_conditions_the_diffusion(
    restorer: Restorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, seen = restored(restorer), list[Tensor]()
    condition = LatentDiffusion.condition

    def listen(self: LatentDiffusion, pixels: Tensor, mixture: Mixture) -> Any:
        seen.append(pixels)
        return condition(self, pixels, mixture)

    monkeypatch.setattr(LatentDiffusion, "condition", listen)
    # The untrained correction gives the photo back, so that two stages are one.
    assert torch.equal(restored(restorer, two_stage=True), plain)
    monkeypatch.setattr(
        "autodir.pipeline.load_stage1", lambda path, device: lambda pixels: 0.5 * pixels
    )
    assert not torch.equal(restored(restorer, stage1="any.safetensors"), plain)
    torch.testing.assert_close(seen[1], 0.5 * seen[0])


def test_a_missing_stage_is_an_error_before_any_work(restorer: Restorer, tmp_path: Path) -> None:
    pytest.importorskip("spandrel")
    with pytest.raises(CheckpointError):
        restored(restorer, stage1=str(tmp_path / "nowhere.safetensors"))


def test_the_report_says_that_a_color_fix_was_left_out(restorer: Restorer) -> None:
    options = RestoreOptions(**FREE, color_fix="wavelet", only=("haze",))
    steps = restorer.restore(photo()[0], options).report.steps
    assert [step.degradation for step in steps] == ["haze"]
    assert "no wavelet color fix" in steps[0].why


ASKED = {
    "fix": (
        "--tile", "--tile-overlap", "--color-fix", "--fidelity", "--two-stage", "--stage1",
        "--guidance-region", "--guidance-space", "--guidance-repeat", "--guidance-from",
        "--guidance-until", "--sampler", "--gamma", "--corrections", "--inversion-depth",
        "--inversion-iterations", "--start",
    ),
    "train": ("--kind", "--second-order"),
    "degrade": ("--with", "--noise-profile"),
    "calibrate-noise": ("--iso", "--repeated", "--out"),
    "models convert": ("--layout", "--base", "--cfw", "--diagnosis"),
}  # fmt: skip


@pytest.mark.parametrize("command", sorted(ASKED))
def test_every_technique_is_reachable_from_the_command_line(command: str) -> None:
    found: Any = get_command(app)
    for word in command.split():
        found = found.commands[word]
    known = {spelled for one in found.params for spelled in one.opts}
    assert [flag for flag in ASKED[command] if flag not in known] == []


def test_every_technique_is_reachable_from_python() -> None:
    fields = {flag_name(spec) for spec in dataclasses.fields(RestoreOptions)}
    assert set(ASKED["fix"]) <= fields
    assert "dreamclean" in SAMPLER_NAMES
    assert {"adapter", "cfw"} <= set(TRAINING_PARTS)


@pytest.mark.parametrize("mode", ["L", "RGBA", "RGB"])
@pytest.mark.parametrize("method", ["adain", "wavelet"])
def test_colors_are_fixed_whatever_the_channels(restorer: Restorer, mode: str, method: str) -> None:
    picture = Image.effect_noise((40, 24), 60).convert(mode)
    options = RestoreOptions(**FREE, color_fix=method, only=("noise",))
    result = restorer.restore(picture, options)
    assert result.image.size == (24, 40)
    assert bool(torch.isfinite(result.image.pixels).all())


@pytest.mark.parametrize(
    "values",
    [{"gamma": 1.5}, {"corrections": -1}, {"inversion_depth": 0.0}, {"guidance_space": "rgb"},
     {"fidelity": 2.0}, {"guidance_region": -1.0}, {"start": "middle"}],
)  # fmt: skip
def test_values_out_of_range_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        TechniqueOptions(**values)  # type: ignore[arg-type]
