"""The one training loop: it ends in time, survives a kill, averages, and logs."""

import csv
import itertools
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from autodir.errors import CheckpointError, ConfigError
from autodir.training import loop
from autodir.training.loop import LoopOptions, fit, learning_rate_at

Figures = dict[str, float | Tensor]


def network() -> nn.Module:
    module = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    return module


def regression(
    module: nn.Module, generator: torch.Generator, progress: float
) -> tuple[Tensor, Figures]:
    x = torch.randn(8, 3, generator=generator)
    error = (module(x).float() - x[:, :2]).square().mean()
    return error, {"progress": progress}


def options(**changes: object) -> LoopOptions:
    values: dict[str, object] = {
        "budget": 1e6,
        "max_steps": 6,
        "learning_rate": 1e-2,
        "warmup": 2,
        "precision": "fp32",
        "log_every": 1,
        **changes,
    }
    return LoopOptions(**values)  # type: ignore[arg-type]


def weights(module: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "losses.csv").open(newline="") as handle:
        return list(csv.DictReader(handle))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look at the clock is one second later."""
    ticks = itertools.count()
    monkeypatch.setattr(loop.time, "monotonic", lambda: float(next(ticks)))


@pytest.mark.usefixtures("clock")
def test_training_ends_with_its_budget(tmp_path: Path) -> None:
    seen: list[float] = []

    def loss(*given: object) -> tuple[Tensor, Figures]:
        seen.append(given[2])  # type: ignore[arg-type]
        return regression(*given)  # type: ignore[arg-type]

    fit(network(), loss, options(budget=5.0, max_steps=None), tmp_path)
    assert seen == [0.0, 0.2, 0.4, 0.6, 0.8]


def test_training_ends_after_max_steps(tmp_path: Path) -> None:
    fit(network(), regression, options(max_steps=4), tmp_path)
    assert [row["step"] for row in rows(tmp_path)] == ["1", "2", "3", "4"]
    progress = [float(row["progress"]) for row in rows(tmp_path)]
    assert progress == pytest.approx([0, 0.25, 0.5, 0.75])


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    fit(network(), regression, options(max_steps=150, learning_rate=3e-2), tmp_path)
    losses = [float(row["loss"]) for row in rows(tmp_path)]
    assert losses[-1] < 0.3 * losses[0]


def killed_at(step: int) -> Callable[..., tuple[Tensor, Figures]]:
    calls = itertools.count()

    def loss(
        module: nn.Module, generator: torch.Generator, progress: float
    ) -> tuple[Tensor, Figures]:
        if next(calls) == step:
            raise KeyboardInterrupt
        return regression(module, generator, progress)

    return loss


def test_killed_and_resumed_training_gives_the_same_weights(tmp_path: Path) -> None:
    whole = fit(network(), regression, options(), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        fit(network(), killed_at(4), options(save_every=0.0), tmp_path / "part")
    resumed = fit(network(), regression, options(resume=True), tmp_path / "part")
    assert torch.equal(weights(whole), weights(resumed))
    assert [row["step"] for row in rows(tmp_path / "part")] == ["1", "2", "3", "4", "5", "6"]


def test_finished_training_is_resumed_without_a_step(tmp_path: Path) -> None:
    first = fit(network(), regression, options(), tmp_path)
    again = fit(network(), killed_at(0), options(resume=True), tmp_path)
    assert torch.equal(weights(first), weights(again))


def test_without_resume_training_starts_anew(tmp_path: Path) -> None:
    first = fit(network(), regression, options(), tmp_path)
    again = fit(network(), regression, options(), tmp_path)
    assert torch.equal(weights(first), weights(again))
    assert len(rows(tmp_path)) == 12


def test_state_of_another_network_is_refused(tmp_path: Path) -> None:
    fit(network(), regression, options(), tmp_path)
    with pytest.raises(CheckpointError, match="another network"):
        fit(nn.Linear(3, 2), regression, options(resume=True), tmp_path)


def test_seed_decides_what_is_drawn(tmp_path: Path) -> None:
    results = [
        weights(fit(network(), regression, options(seed=seed), tmp_path / str(index)))
        for index, seed in enumerate((0, 0, 1))
    ]
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_averaged_weights_are_handed_on(tmp_path: Path) -> None:
    module = network()
    start = weights(module)
    fit(module, regression, options(max_steps=1), tmp_path)
    state = load_file(tmp_path / "state.safetensors")
    names = [name for name, _ in module.named_parameters()]
    trained = torch.cat([state[f"model.{name}"].flatten() for name in names])
    assert not torch.equal(trained, start)
    torch.testing.assert_close(weights(module), 0.1 * start + 0.9 * trained)  # min(ema, 1 / 10)
    assert not module.training


def test_long_memory_follows_slowly(tmp_path: Path) -> None:
    start = weights(network())
    moved = [
        float(
            (
                weights(fit(network(), regression, options(max_steps=20, ema=ema), tmp_path / name))
                - start
            ).norm()
        )
        for ema, name in ((0.0, "none"), (0.99, "long"))
    ]
    assert moved[1] < moved[0]


def test_integer_buffers_are_copied(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    fit(module, regression, options(max_steps=5), tmp_path)
    assert int(module[1].num_batches_tracked) == 5


def test_frozen_parameters_stay(tmp_path: Path) -> None:
    module = network()
    module[0].requires_grad_(False)
    before = [parameter.clone() for parameter in module.parameters()]
    fit(module, regression, options(), tmp_path)
    after = list(module.parameters())
    assert [torch.equal(a, b) for a, b in zip(before, after, strict=True)] == [
        True,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize(("precision", "expected"), [("fp32", False), ("bf16", True)])
def test_autocast_is_for_the_training_alone(tmp_path: Path, precision: str, expected: bool) -> None:
    seen: list[bool] = []

    def loss(*given: object) -> tuple[Tensor, Figures]:
        seen.append(torch.is_autocast_enabled("cpu"))
        return regression(*given)  # type: ignore[arg-type]

    module = fit(network(), loss, options(precision=precision, max_steps=2), tmp_path)
    assert seen == [expected, expected]
    x = torch.rand(5, 3)
    exact = (x @ module[0].weight.T + module[0].bias) @ module[1].weight.T + module[1].bias
    torch.testing.assert_close(module(x), exact)
    assert "forward" not in vars(module)


def test_parts_of_different_precision_train_in_one_process(tmp_path: Path) -> None:
    for precision in ("bf16", "fp32", "bf16"):
        fit(network(), regression, options(precision=precision, max_steps=1), tmp_path / precision)


def test_step_that_is_not_finite_is_skipped(tmp_path: Path) -> None:
    calls = itertools.count()

    def loss(
        module: nn.Module, generator: torch.Generator, progress: float
    ) -> tuple[Tensor, Figures]:
        value, figures = regression(module, generator, progress)
        return value * (math.nan if next(calls) == 1 else 1), figures

    module = fit(network(), loss, options(max_steps=4), tmp_path)
    assert bool(torch.isfinite(weights(module)).all())
    assert [row["skipped"] for row in rows(tmp_path)] == ["0", "1", "1", "1"]


def test_rows_tell_step_time_rate_and_figures(tmp_path: Path) -> None:
    fit(network(), regression, options(max_steps=6, log_every=2), tmp_path)
    logged = rows(tmp_path)
    assert [row["step"] for row in logged] == ["2", "4", "6"]
    assert list(logged[0]) == ["step", "seconds", "rate", "loss", "progress", "skipped"]


def test_samples_show_the_average_and_leave_the_training_alone(tmp_path: Path) -> None:
    shown: list[Tensor] = []

    def sample(module: nn.Module, path: Path) -> None:
        assert not module.training
        shown.append(weights(module))
        path.write_bytes(b"picture")

    plain = fit(network(), regression, options(), tmp_path / "plain")
    seen = fit(network(), regression, options(sample_every=0.0), tmp_path / "seen", sample)
    assert torch.equal(weights(plain), weights(seen))
    assert len(shown) == 7  # after each step, and at the end
    assert torch.equal(shown[-1], weights(seen))
    assert (tmp_path / "seen" / "samples.png").exists()


def test_rate_warms_up_and_falls_to_its_final_share() -> None:
    chosen = LoopOptions(budget=1, learning_rate=1.0, warmup=10, final_ratio=0.01)
    assert learning_rate_at(0.0, 0, chosen) == pytest.approx(0.1)
    assert learning_rate_at(0.0, 9, chosen) == pytest.approx(1.0)
    assert learning_rate_at(0.5, 100, chosen) == pytest.approx(0.505)
    assert learning_rate_at(1.0, 100, chosen) == pytest.approx(0.01)
    assert learning_rate_at(7.0, 100, chosen) == pytest.approx(0.01)


@pytest.mark.parametrize("wrong", [{"budget": 0.0}, {"budget": -1.0}, {"precision": "fp16"}])
def test_options_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        options(**wrong)
