"""The lighting stage trains the experts of light alone, each on its degradation, and their gate."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from autodir.checkpoint import Model
from autodir.correction.lighting import BASIS, FIRST, Light, Veil, basis
from autodir.errors import CheckpointError, ContractError
from autodir.prompts import load_phrases
from autodir.training import lighting as stage
from autodir.training import notes as notes_module
from autodir.training.batches import Batches
from autodir.training.instructions import Instructions
from autodir.training.lighting import note, squared_error, train_lighting
from autodir.training.loop import LoopOptions

OPTIONS = LoopOptions(budget=0.1)


@pytest.fixture(autouse=True)
def small_photos(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "SIZES", (64, 48))
    monkeypatch.setattr(stage, "SIZES_ALONE", (48, 64))


@pytest.fixture
def told(model: Model) -> Instructions:
    torch.manual_seed(0)
    model.eval()
    config = {"embed_dim": model.clip.embed_dim, "hidden": 16, "members": 1}
    model.scm.add_lighting(config).train().requires_grad_(True)
    return Instructions(model.clip, model.taxonomy, load_phrases())


@pytest.mark.parametrize("sampled", [True, False])
def test_stage_changes_the_lighting_alone(
    model: Model, batches: Batches, told: Instructions, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, sampled: bool,
) -> None:  # fmt: skip
    monkeypatch.setattr(stage, "SAMPLED", 1.0)
    before = {name: copy.deepcopy(part.state_dict()) for name, part in model.modules.items()}
    diffusion = model.latent_diffusion() if sampled else None
    gained = train_lighting(model.scm, diffusion, batches, told, OPTIONS, tmp_path / "run")
    changed = {
        f"{name}.{key}".split("lighting")[0]
        for name, part in model.modules.items()
        for key, value in part.state_dict().items()
        if not torch.equal(before[name][key], value)
    }
    assert changed == {"scm."}
    assert gained.keys() == {"haze", "underexposure"}
    for key in gained:
        for name in (stage.NOTES, stage.NOTES_ALONE):
            assert (tmp_path / f"run-{key}" / name).is_file()


def test_what_is_no_matter_of_light_alone_is_learnt_from_its_correction(
    model: Model, batches: Batches, told: Instructions, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    hows: list[bool] = []
    monkeypatch.setattr(Light, "forget_correction", lambda self: hows.append(True))
    learn = stage.learn

    def noted(expert, notes, error, how, *given):  # type: ignore[no-untyped-def]
        hows.append(how.last)
        learn(expert, notes, error, how, *given)

    monkeypatch.setattr(stage, "learn", noted)
    options, run_dir = replace(OPTIONS, budget=1e-6), tmp_path / "run"
    learnt = train_lighting(model.scm, None, batches, told, options, run_dir, experts=("rain",))
    assert hows == [False]  # once, every layer, and what the correction counts for is kept
    lighting = model.scm.lighting
    assert lighting is not None
    assert lighting.config["late"] == ["rain"]
    assert [one.late for one in lighting.experts.values()] == [False, False, True]
    assert learnt["rain"].photos == stage.DRAWN * notes_module.LEAST
    assert (tmp_path / "run-rain" / stage.NOTES).is_file()
    assert not (tmp_path / "run-rain" / stage.NOTES_ALONE).exists()
    train_lighting(model.scm, None, batches, told, options, tmp_path / "other", experts=("haze",))
    assert hows == [False, False, True, True]


def test_each_expert_learns_its_own_degradation(
    model: Model, batches: Batches, told: Instructions, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    asked: list[tuple[str, ...]] = []
    original = Batches.draw

    def noted(self: Batches, *given, **named):  # type: ignore[no-untyped-def]
        asked.append(tuple(key for key, share in (self.emphasis or {}).items() if share))
        return original(self, *given, **named)

    monkeypatch.setattr(Batches, "draw", noted)
    monkeypatch.setattr("autodir.training.notes.LEAST", 12)
    monkeypatch.setattr(stage, "FIT", replace(stage.FIT, epochs=300))
    gained = train_lighting(model.scm, None, batches, told, OPTIONS, tmp_path / "run")
    assert set(asked) == {("haze",), ("underexposure",)}
    assert asked == sorted(asked)  # one after the other
    assert gained["underexposure"].gained > 3
    assert gained["underexposure"].photos == 2 * 12 * stage.DRAWN
    assert gained["underexposure"].seconds > 0
    images = batches.alone("underexposure").draw(
        16, 64, torch.Generator().manual_seed(9), least=0.4
    )
    expert = model.scm.lighting.experts["underexposure"]  # type: ignore[union-attr]
    assert isinstance(expert, Light)
    notes = note(expert, images.degraded, images.degraded, images.degraded, images.target)
    after = squared_error(expert(expert.standard(notes["statistics"])), notes)
    before = (images.degraded - images.target).square().mean((1, 2, 3))
    assert float((before / after).log10().mean()) > 0.1


def test_the_error_of_a_mixture_is_told_by_sums() -> None:
    generator = torch.Generator().manual_seed(0)
    images = [torch.rand(2, 3, 24, 40, generator=generator) for _ in range(4)]
    shares = 0.3 * torch.randn(2, 3, BASIS, generator=generator)
    lifted = Veil.of(images[0]).lifted(images[0])
    made = torch.stack(list(basis(images[0], lifted, *images[1:3])), dim=2)
    mixed = torch.einsum("bck,bckhw->bchw", shares, made)
    expected = (mixed - images[3]).square().mean((1, 2, 3))
    notes = note(Light(4, 1, 0.0), *images)
    torch.testing.assert_close(squared_error(shares, notes), expected, rtol=1e-4, atol=1e-6)
    plain = torch.zeros(2, 3, BASIS)
    plain[..., FIRST] = 1
    expected = (images[2] - images[3]).square().mean((1, 2, 3))
    torch.testing.assert_close(squared_error(plain, notes), expected, rtol=1e-4, atol=1e-6)


def test_what_is_made_worse_than_the_correction_counts_more() -> None:
    images = torch.rand(2, 3, 24, 40, generator=torch.Generator().manual_seed(0))
    notes = note(Light(4, 1, 0.0), images, images, images, torch.cat([images[:1], images[1:] / 2]))
    shares = torch.zeros(2, 3, BASIS)
    shares[..., FIRST] = 0.8  # worse where the correction was right, better where it was twice that
    error = squared_error(shares, notes)
    told = stage.harm(shares, notes)
    torch.testing.assert_close(told[1], error[1])
    worse = (error[0] + stage.FLOOR) ** (1 + stage.HARM) / stage.FLOOR**stage.HARM - stage.FLOOR
    torch.testing.assert_close(told[0], worse, rtol=1e-2, atol=1e-6)


def test_photos_alone_say_nothing_of_sample_and_correction() -> None:
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    black = torch.zeros_like(images)
    notes = note(Light(4, 1, 0.0), images, black, black, images.sqrt())
    shares = torch.zeros(2, 3, BASIS)
    shares[..., 1] = 1  # the root of the photo
    torch.testing.assert_close(squared_error(shares, notes), torch.zeros(2), atol=1e-6, rtol=0)
    of_frozen_parts = shares.clone()
    of_frozen_parts[..., 4:7] = 3.0
    torch.testing.assert_close(squared_error(of_frozen_parts, notes), squared_error(shares, notes))


def test_the_gate_knows_what_is_meant_after_it(
    model: Model, batches: Batches, told: Instructions, tmp_path: Path
) -> None:
    train_lighting(model.scm, None, batches, told, OPTIONS, tmp_path / "run", experts=("haze",))
    assert not (tmp_path / "run-underexposure").exists()
    prompts = told.encoder.encode([model.taxonomy.prompt(key) for key in ("haze", "noise")])
    assert model.scm.lighting is not None
    with torch.no_grad():
        shares = model.scm.lighting.shares(prompts.pooled)
    assert (shares > 0.5).tolist() == [[True, False], [False, False]]


def test_notes_of_another_kind_are_refused(
    model: Model, batches: Batches, told: Instructions, tmp_path: Path
) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "run-haze" / stage.NOTES
    path.parent.mkdir()
    save_file({"statistics": torch.zeros(3, 7)}, path)
    options = LoopOptions(budget=0.1, resume=True)
    with pytest.raises(CheckpointError, match="other statistics"):
        train_lighting(model.scm, None, batches, told, options, tmp_path / "run")


def test_corrector_without_a_lighting_is_refused(
    model: Model, batches: Batches, tmp_path: Path
) -> None:
    instructions = Instructions(model.clip, model.taxonomy, load_phrases())
    with pytest.raises(ContractError, match="no lighting"):
        train_lighting(model.scm, None, batches, instructions, OPTIONS, tmp_path)
