"""σ and timesteps: inverse of each other, monotone, finite."""

import pytest
import torch

from autodir.diffusion.schedule import SD15, SMALL, Schedule, ScheduleConfig, zero_terminal_snr
from autodir.errors import ConfigError, ContractError


@pytest.mark.parametrize("config", [SMALL, SD15])
def test_timestep_survives_the_way_to_sigma_and_back(config: ScheduleConfig) -> None:
    schedule = Schedule(config)
    t = torch.tensor([0.0, 0.25, 1.0, 431.6, 997.9, 998.5, 999.0])
    torch.testing.assert_close(schedule.sigma_to_t(schedule.t_to_sigma(t)), t, rtol=0, atol=2e-3)


def test_whole_timesteps_give_the_table_itself() -> None:
    schedule = Schedule(SMALL)
    t = torch.arange(1000)
    torch.testing.assert_close(schedule.t_to_sigma(t), schedule.table.float(), rtol=1e-6, atol=0)


def test_levels_outside_the_table_get_its_ends() -> None:
    schedule = Schedule(SD15)
    ends = schedule.sigma_to_t(torch.tensor([1e-9, 1e9]))
    torch.testing.assert_close(ends, torch.tensor([0.0, 999.0]))


def test_zero_terminal_snr_keeps_the_first_and_zeroes_the_last() -> None:
    before = Schedule(SD15).alphas_cumprod
    after = zero_terminal_snr(before)
    assert float(after[0]) == pytest.approx(float(before[0]))
    assert float(after[-1]) == 0.0


def test_zero_terminal_snr_leaves_no_visible_signal_and_stays_finite() -> None:
    schedule = Schedule(SMALL)
    assert 1000 < schedule.sigma_max < 5000
    assert bool((schedule.table.diff() > 0).all())


@pytest.mark.parametrize("config", [SMALL, SD15])
@pytest.mark.parametrize("spacing", ["linspace", "trailing", "karras"])
@pytest.mark.parametrize("steps", [1, 2, 4, 33, 1000])
def test_levels_fall_strictly_from_the_top_to_zero(
    config: ScheduleConfig, spacing: str, steps: int
) -> None:
    schedule = Schedule(config)
    levels = schedule.sigmas(steps, spacing=spacing)  # type: ignore[arg-type]
    assert levels.shape == (steps + 1,)
    assert float(levels[0]) == pytest.approx(schedule.sigma_max, rel=1e-5)
    assert float(levels[-1]) == 0
    assert bool((levels.diff() < 0).all())


@pytest.mark.parametrize("steps", [0, -3, 1001])
def test_impossible_numbers_of_steps_are_refused(steps: int) -> None:
    with pytest.raises(ContractError):
        Schedule(SMALL).sigmas(steps)


def test_unknown_spacing_is_refused() -> None:
    with pytest.raises(ContractError, match="spacing"):
        Schedule(SMALL).sigmas(4, spacing="leading")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "values",
    [
        {"timesteps": 1},
        {"beta_start": 0.0},
        {"beta_start": 0.1, "beta_end": 0.01},
        {"prediction": "flow"},
        {"spacing": "leading"},
        {"prediction": "epsilon", "zero_terminal_snr": True},
        {"timestep": 1000},
    ],
)
def test_impossible_configurations_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        ScheduleConfig.from_mapping(values)


def test_configuration_survives_json() -> None:
    assert ScheduleConfig.from_mapping(SD15.to_dict()) == SD15
    assert Schedule(SD15.to_dict()).config == SD15
