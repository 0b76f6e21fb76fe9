"""The refinement stage trains the experts alone, each on its degradation, and their gate."""

import copy
import dataclasses
from pathlib import Path

import pytest
import torch

from autodir.checkpoint import Model
from autodir.errors import ContractError
from autodir.prompts import load_phrases
from autodir.training import refinement as stage
from autodir.training.batches import Batches
from autodir.training.instructions import Instructions
from autodir.training.loop import LoopOptions
from autodir.training.losses import relative_error
from autodir.training.refinement import levelled, route, train_refinement
from autodir.training.replay import FIRST


@pytest.fixture(autouse=True)
def small_crops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "CROP", 32)
    monkeypatch.setattr(stage, "WINDOW", 24)


def noted_gains(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """Grows by what each gain is measured from: first over the photo, then beyond the NAFNet."""
    seen: list[torch.Tensor] = []
    monkeypatch.setattr(
        stage, "decibels_gained",
        lambda before, result, target: (seen.append(before), torch.zeros(len(before)))[1],
    )  # fmt: skip
    return seen


@pytest.fixture
def told(model: Model) -> Instructions:
    torch.manual_seed(0)
    model.eval()
    config = {"embed_dim": model.clip.embed_dim, "width": 16, "dilations": (1, 1)}
    config |= {"experts": ("noise", "haze")}
    model.scm.add_refinement(config).train().requires_grad_(True)
    return Instructions(model.clip, model.taxonomy, load_phrases())


@pytest.mark.parametrize("sampled", [True, False])
def test_stage_changes_the_refinement_alone(
    model: Model,
    batches: Batches,
    told: Instructions,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sampled: bool,
) -> None:
    monkeypatch.setattr(stage, "SAMPLED", 1.0)
    before = {name: copy.deepcopy(part.state_dict()) for name, part in model.modules.items()}
    options = LoopOptions(budget=1e6, max_steps=2, precision="bf16", log_every=1, warmup=1)
    diffusion = model.latent_diffusion() if sampled else None
    train_refinement(model.scm, diffusion, batches, told, options, tmp_path / "run", batch=4)
    changed = {
        f"{name}.{key}".split("refinement")[0]
        for name, part in model.modules.items()
        for key, value in part.state_dict().items()
        if not torch.equal(before[name][key], value)
    }
    assert changed == {"scm."}
    for key in ("noise", "haze"):
        assert (tmp_path / f"run-{key}" / "samples.png").is_file()
        assert "beyond_db" in (tmp_path / f"run-{key}" / "losses.csv").read_text()


def test_where_rounds_draw_no_samples_none_are_drawn_in_training(
    model: Model,
    batches: Batches,
    told: Instructions,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shares: list[float] = []
    original = stage.restored_of
    monkeypatch.setattr(
        stage, "restored_of",
        lambda *given: (shares.append(given[-1]), original(*given))[1],
    )  # fmt: skip
    told.taxonomy = dataclasses.replace(
        told.taxonomy,
        degradations=tuple(
            dataclasses.replace(one, sampled=one.key != "haze") for one in told.taxonomy
        ),
    )
    options = LoopOptions(budget=1e6, max_steps=1, warmup=1)
    train_refinement(
        model.scm, model.latent_diffusion(), batches, told, options, tmp_path / "run", batch=2
    )
    assert set(shares) == {stage.SAMPLED, 0.0}


@pytest.mark.parametrize("reuse", [1, 10])
def test_an_expert_sees_what_sharpening_made_of_more_than_its_crop(
    model: Model,
    batches: Batches,
    told: Instructions,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    reuse: int,
) -> None:
    monkeypatch.setattr(stage, "SIDE", 40)
    sharpening = model.scm.add_sharpening({"embed_dim": model.clip.embed_dim, "hidden": 8})
    given: list[torch.Tensor] = []

    def gray(photo: torch.Tensor, instruction: torch.Tensor) -> torch.Tensor:
        given.append(photo)
        return torch.inference_mode()(torch.full_like)(photo, 0.5)

    monkeypatch.setattr(sharpening, "sharpened", gray)
    seen = noted_gains(monkeypatch)
    options = LoopOptions(budget=1e6, max_steps=1, precision="fp32", warmup=1)
    train_refinement(
        model.scm, None, batches, told, options, tmp_path / "run", experts=("blur",), batch=4,
        reuse=reuse,
    )  # fmt: skip
    assert all(photo.shape == (4, 3, 40, 40) for photo in given)
    assert float((seen[0] - 0.5).abs().max()) == 0  # the gain is over the sharper photo
    assert model.scm.refinement is not None
    assert model.scm.refinement.experts["blur"].ending.bias.any()


def test_an_expert_of_blur_sees_what_deconvolution_made(
    model: Model,
    batches: Batches,
    told: Instructions,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sharpening = model.scm.add_sharpening({"embed_dim": model.clip.embed_dim, "hidden": 8})
    sharpening.gate.bias.data.fill_(8.0)
    found: list[torch.Tensor] = []

    def gray(photo: torch.Tensor, otherwise: torch.Tensor) -> torch.Tensor:
        found.append(photo)
        return torch.full_like(photo, 0.5)

    monkeypatch.setattr("autodir.correction.sharpening.deconvolved", gray)
    seen = noted_gains(monkeypatch)
    monkeypatch.setattr(stage, "SIDE", 40)
    options = LoopOptions(budget=1e6, max_steps=7, precision="fp32", warmup=1)
    train_refinement(
        model.scm, None, batches, told, options, tmp_path / "run", experts=("blur",), batch=2,
        reuse=2,
    )  # fmt: skip
    assert all(float((part - 0.5).abs().max()) == 0 for part in seen[::2])  # before, beyond, ...
    # One batch for the sheet, those of the beginning, one with the first step, one each six steps.
    assert len(found) == 2 * (1 + FIRST + 1)


@pytest.mark.parametrize(("share", "expected"), [(1.0, True), (0.0, False)])
def test_an_expert_of_fine_streaks_sees_files_too(
    model: Model,
    batches: Batches,
    told: Instructions,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    share: float,
    expected: bool,
) -> None:
    monkeypatch.setattr(stage, "WEATHERED", {"noise": share})
    monkeypatch.setattr(stage, "weathered", lambda photos, generator: torch.full_like(photos, 0.5))
    seen = noted_gains(monkeypatch)
    options = LoopOptions(budget=1e6, max_steps=2, precision="fp32", warmup=1)
    train_refinement(
        model.scm, None, batches, told, options, tmp_path / "run", experts=("noise", "haze"),
        batch=2,
    )  # fmt: skip
    filed = [bool((part == 0.5).all()) for part in seen]
    assert any(filed) == expected
    assert not all(filed)  # haze is not among them


def test_each_expert_learns_its_own_degradation(
    model: Model,
    batches: Batches,
    told: Instructions,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn: list[dict[str, float]] = []
    original = Batches.draw

    def noted(self: Batches, *given, **named):  # type: ignore[no-untyped-def]
        drawn.append(dict(self.emphasis or {}))
        return original(self, *given, **named)

    monkeypatch.setattr(Batches, "draw", noted)
    options = LoopOptions(
        budget=1e6, max_steps=60, precision="fp32", learning_rate=5e-3, warmup=5, ema=0.9
    )
    train_refinement(model.scm, None, batches, told, options, tmp_path / "run", batch=6)
    asked = [tuple(key for key, share in emphasis.items() if share) for emphasis in drawn]
    assert set(asked) == {("noise",), ("haze",)}
    assert asked == sorted(asked, key=[("noise",), ("haze",)].index)  # one after the other
    seen = batches.alone("noise").draw(12, 32, torch.Generator().manual_seed(9), least=0.4)
    with torch.no_grad():
        plain = seen.degraded
        refined = plain + model.scm.refinement.experts["noise"](plain, plain, plain)  # type: ignore[union-attr]
    errors = [float(relative_error(image, seen.target).mean()) for image in (refined, plain)]
    assert errors[0] < errors[1] - 0.1


def test_a_levelled_target_has_the_light_of_the_image_and_its_own_details() -> None:
    generator = torch.Generator().manual_seed(0)
    target = 0.2 + 0.3 * torch.rand(2, 3, 24, 24, generator=generator)
    lit = torch.tensor([1.6, 1.2, 0.8]).view(1, 3, 1, 1) * target + 0.05
    assert torch.allclose(levelled(target, lit), lit, atol=1e-5)
    noise = 0.02 * torch.randn(lit.shape, generator=generator)
    near = levelled(target, lit + noise)
    assert float((near - lit).abs().mean()) < 0.2 * float(noise.abs().mean())
    assert bool(torch.isfinite(levelled(torch.ones(1, 3, 8, 8), torch.zeros(1, 3, 8, 8))).all())


def test_experts_for_darkness_are_shown_levelled_targets(
    model: Model, batches: Batches, told: Instructions, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    asked: list[float] = []

    def noted(target: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        asked.append(float(image.mean()))
        return levelled(target, image)

    monkeypatch.setattr(stage, "levelled", noted)
    options = LoopOptions(budget=1e6, max_steps=1, precision="fp32", warmup=1)
    for key in ("noise", "underexposure"):
        train_refinement(
            model.scm, None, batches, told, options, tmp_path / key, experts=(key,), batch=2
        )
        assert bool(asked) == (key == "underexposure")


def test_the_gate_knows_what_is_meant(model: Model, told: Instructions) -> None:
    refinement = model.scm.refinement
    assert refinement is not None
    before = {name: value.clone() for name, value in refinement.experts.state_dict().items()}
    assert route(refinement, told, seed=0) > 0.95
    prompts = told.encoder.encode([model.taxonomy.prompt(key) for key in ("noise", "haze", "rain")])
    with torch.no_grad():
        shares = refinement.shares(prompts.pooled)
    assert (shares > 0.5).tolist() == [[True, False], [False, True], [False, False]]
    after = refinement.experts.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_corrector_without_a_refinement_is_refused(
    model: Model, batches: Batches, tmp_path: Path
) -> None:
    instructions = Instructions(model.clip, model.taxonomy, load_phrases())
    options = LoopOptions(budget=1.0)
    with pytest.raises(ContractError, match="no refinement"):
        train_refinement(model.scm, None, batches, instructions, options, tmp_path)
