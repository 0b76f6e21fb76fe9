"""From a folder of photos to a model folder: all stages in order, one alone, and resumed."""

import copy
import json
from pathlib import Path

import pytest
import torch

from autodir.checkpoint import RUNS, Model, info, load_model, save_model, verify
from autodir.config import RestoreOptions, TrainOptions
from autodir.errors import CheckpointError, ConfigError
from autodir.pipeline import Restorer
from autodir.training import (
    autoencoder,
    biqa,
    cfw,
    clearing,
    correction,
    diffusion,
    locator,
    run,
    stages,
)
from autodir.training.run import SHARES, run_part
from autodir.training.stages import Stage


@pytest.fixture(autouse=True)
def tiny_stages(monkeypatch: pytest.MonkeyPatch, tiny_model: Model) -> None:
    """The stages on small crops, from the tiny model instead of the small one."""
    for stage in (autoencoder, cfw, clearing, correction, diffusion):
        monkeypatch.setattr(stage, "CROP", 32)
    for stage in (biqa, locator):
        monkeypatch.setattr(stage, "SIZES", (32,))
    monkeypatch.setattr(run, "build_small", lambda seed: copy.deepcopy(tiny_model))


def train(photo_folder: Path, out: Path, part: str = "all", **changes: object) -> Path:
    values = {"part": part, "data": photo_folder, "out": out, "budget": 1.0, "batch": 2, **changes}
    return run_part(TrainOptions.from_mapping(values))


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory, photo_folder: Path, tiny_model: Model
) -> Path:
    """A model folder that ``train all`` wrote."""
    out = tmp_path_factory.mktemp("trained") / "model"
    with pytest.MonkeyPatch.context() as patch:
        for stage in (autoencoder, clearing, correction, diffusion):
            patch.setattr(stage, "CROP", 32)
        patch.setattr(biqa, "SIZES", (32,))
        patch.setattr(run, "build_small", lambda seed: copy.deepcopy(tiny_model))
        return train(photo_folder, out)


def test_shares_of_the_budget_sum_to_one() -> None:
    assert sum(SHARES.values()) == pytest.approx(1)


def test_all_stages_write_a_model_that_restores(trained: Path) -> None:
    verify(trained)
    photo = torch.rand(3, 40, 40, generator=torch.Generator().manual_seed(0))
    result = Restorer.from_pretrained(trained, device="cpu").restore(
        photo, RestoreOptions(guard=False, max_steps=1)
    )
    assert result.image.size == (40, 40)


def test_all_stages_leave_their_notes(trained: Path) -> None:
    notes = info(trained).training
    assert list(notes) == list(SHARES)
    assert all(rounds[0]["photos"] == 3 for rounds in notes.values())
    states = {path.parent.name for path in (trained / ".training").glob("*/state.safetensors")}
    assert {"biqa", "autoencoder", "diffusion", "correction"} <= states


def test_all_stages_change_their_parts(trained: Path, tiny_model: Model) -> None:
    for name, module in load_model(trained).modules.items():
        before = tiny_model.modules[name].state_dict()
        after = module.state_dict()
        assert any(not torch.equal(before[key].half().float(), after[key]) for key in before), name


def test_thresholds_are_chosen_last(trained: Path) -> None:
    calibration = json.loads((trained / "biqa" / "calibration.json").read_text())
    assert calibration["chosen_on"]["clean_photos"] > 0


def test_resume_passes_over_what_is_done(
    trained: Path, photo_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("a stage that is done was run again")

    before = info(trained).sha256
    monkeypatch.setattr(run, "_run_stage", never)
    train(photo_folder, trained, resume=True)
    assert info(trained).sha256 == before


def test_resume_after_a_kill_goes_on_with_the_next_stage(
    tmp_path: Path, photo_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def noted(name: str, model: Model, *_: object) -> None:
        if name == "diffusion" and len(done) == 5:
            done.append("killed")
            raise KeyboardInterrupt
        done.append(name)
        model.training[name] = [{}]

    monkeypatch.setattr(run, "_run_stage", noted)
    with pytest.raises(KeyboardInterrupt):
        train(photo_folder, tmp_path / "model")
    train(photo_folder, tmp_path / "model", resume=True)
    assert done == [
        "text",
        "biqa",
        "locator",
        "head",
        "autoencoder",
        "killed",
        "diffusion",
        "correction",
        "clearing",
        "sharpening",
        "refinement",
        "lighting",
        "trial",
        "calibration",
    ]


def _write(clock: Path, elapsed: float) -> None:
    clock.parent.mkdir(parents=True, exist_ok=True)
    clock.write_text(json.dumps({"step": 1, "elapsed": elapsed}))


@pytest.mark.parametrize("ended", [True, False])
def test_a_resumed_stage_tells_the_time_of_all_its_runs(
    tmp_path: Path, photo_folder: Path, tiny_model: Model, monkeypatch: pytest.MonkeyPatch,
    ended: bool,
) -> None:  # fmt: skip
    """Also of an expert, and of a run that had ended and is told by the new row alone."""
    out = tmp_path / "model"
    clock = out / RUNS / "refinement-noise" / "state.json"
    other = out / RUNS / "refinement-rain" / "state.json"
    spent = iter((40.0, 65.0, 7.0))
    _write(other, 12.0)

    def noted(stage: Stage) -> dict[str, object]:
        _write(clock, next(spent))
        return {"experts": ["noise"]}

    monkeypatch.setattr(run, "build_small", lambda seed: copy.deepcopy(tiny_model))
    monkeypatch.setitem(run.STAGES, "refinement", (1e-3, noted))  # type: ignore[arg-type]
    train(photo_folder, out, "refinement")
    if not ended:  # killed before its row was written
        model = load_model(out)
        model.training["refinement"].pop()
        save_model(model, out)
    train(photo_folder, out, "refinement", resume=True)
    train(photo_folder, out, "refinement")
    seconds = [row["seconds"] for row in load_model(out).training["refinement"]]
    assert seconds == [65.0, 7.0]


def test_one_part_leaves_the_others_alone(
    tmp_path: Path, photo_folder: Path, tiny_model: Model
) -> None:
    train(photo_folder, tmp_path / "model", "correction")
    loaded = load_model(tmp_path / "model")
    same = {
        name: all(
            torch.equal(value.half().float() if value.is_floating_point() else value, stored)
            for value, stored in zip(
                tiny_model.modules[name].state_dict().values(),
                module.state_dict().values(),
                strict=True,
            )
        )
        for name, module in loaded.modules.items()
    }
    assert same == {"clip": True, "biqa": True, "vae": True, "unet": True, "scm": False}
    assert list(loaded.training) == ["correction"]


def test_second_round_starts_from_the_folder(
    trained: Path, tmp_path: Path, photo_folder: Path
) -> None:
    train(photo_folder, tmp_path / "next", "calibration", init=trained)
    train(photo_folder, tmp_path / "next", "calibration")
    notes = info(tmp_path / "next").training
    assert len(notes["calibration"]) == 3  # one came with the model it started from
    assert len(notes["biqa"]) == 1


def test_missing_photos_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        train(tmp_path / "nowhere", tmp_path / "model")


def test_model_to_start_from_must_be_sound(
    tmp_path: Path, photo_folder: Path, tiny_model: Model
) -> None:
    save_model(tiny_model, tmp_path / "old")
    (tmp_path / "old" / "scm" / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="hash differs"):
        train(photo_folder, tmp_path / "model", init=tmp_path / "old")


def test_precision_without_a_recipe_is_refused(tmp_path: Path, photo_folder: Path) -> None:
    with pytest.raises(ConfigError, match="fp16"):
        train(photo_folder, tmp_path / "model", "autoencoder", precision="fp16")


@pytest.mark.parametrize(
    ("part", "kind"), [("adapter", "sft"), ("adapter", "control"), ("cfw", "")]
)
def test_optional_parts_are_trained_saved_and_loaded(
    photo_folder: Path, tiny_model: Model, tmp_path: Path, part: str, kind: str
) -> None:
    out = tmp_path / "model"
    save_model(copy.deepcopy(tiny_model), out)
    train(photo_folder, out, part, precision="fp32", **({"kind": kind} if kind else {}))
    assert f"{part}/model.safetensors" in verify(out)
    assert set(info(out).training) == {part}
    loaded = load_model(out)
    assert loaded.modules.keys() - tiny_model.modules.keys() == {part}
    for name, module in tiny_model.modules.items():
        own = loaded.modules[name].state_dict()
        for key, value in module.state_dict().items():
            torch.testing.assert_close(own[key], value, rtol=2e-3, atol=1e-3)
    photo = torch.rand(3, 40, 40, generator=torch.Generator().manual_seed(0))
    options = RestoreOptions(guard=False, max_steps=1, fidelity=float(part == "cfw"))
    assert Restorer(loaded).restore(photo, options).image.size == (40, 40)


def test_published_shapes_keep_text_tower_and_autoencoder() -> None:
    assert run.stages_of("all", "sd15") == ["biqa", "diffusion", "correction", "calibration"]
    assert run.stages_of("all", "small") == list(SHARES)
    for part in ("text", "autoencoder"):
        assert run.stages_of(part, "small") == [part]
        with pytest.raises(ConfigError, match=f"takes its {part} as it comes"):
            run.stages_of(part, "sd15")


def test_a_start_is_written_once_and_trained_by_the_recipes_of_its_scale(
    tmp_path: Path, photo_folder: Path, tiny_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, ran = [], []

    def start(folder: Path) -> None:
        begun.append(folder)
        model = copy.copy(tiny_model)
        model.scale = "sd15"
        save_model(model, folder)

    def noted(name: str, model: Model, options: TrainOptions, budget: float, *rest: object) -> None:
        ran.append((name, round(budget, 3), rest[-1]))

    monkeypatch.setattr(run, "_run_stage", noted)
    values = {"data": photo_folder, "out": tmp_path / "model", "budget": 66.0}
    for part in ("diffusion", "all"):
        run_part(TrainOptions.from_mapping({"part": part, **values}), start)
    assert begun == [tmp_path / "model"]
    assert [name for name, *_ in ran] == [
        "diffusion",
        "biqa",
        "diffusion",
        "correction",
        "calibration",
    ]
    assert ran[0] == ("diffusion", 66.0, run.SD15["diffusion"])
    assert sum(budget for _, budget, _ in ran[1:]) == pytest.approx(66, abs=0.1)
    assert ran[-1][2] is None


def test_patches_are_as_large_as_asked_and_activations_computed_twice(
    tmp_path: Path, photo_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[object] = []

    def noted(diffusion: object, *rest: object) -> None:
        seen.extend([rest[-1], diffusion.unet.is_gradient_checkpointing])  # type: ignore[attr-defined]

    monkeypatch.setattr(stages, "train_diffusion", noted)
    train(photo_folder, tmp_path / "model", "diffusion", crop=64, checkpointing=True)
    assert seen == [64, True]
