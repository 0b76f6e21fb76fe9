"""What option classes are made of: durations, files, layers, ranges."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from autodir.errors import ConfigError
from autodir.options import Options, check_fields, merge, option, parse_duration, read_toml


@dataclass(frozen=True, kw_only=True, slots=True)
class Own(Options):
    """A class of options as any module may declare one."""

    depth: float = option(0.5, "How deep.", limits=(0.0, 1.0))
    model: str | None = option(None, "Which model.")

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class Inherited(Own):
    """Another class with the same fields and one more."""

    rounds: int = option(1, "How often.", limits=(1, 4))


@pytest.mark.parametrize("cls", [Own, Inherited])
def test_fields_of_any_class_are_checked_inherited_ones_too(cls: type[Own]) -> None:
    assert cls(depth=1).depth == 1.0
    with pytest.raises(ConfigError, match="--depth cannot be 2"):
        cls(depth=2)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("150m", 9000),
        ("2h", 7200),
        ("1h30m", 5400),
        ("1d", 86400),
        ("1.5 h", 5400),
        ("45", 45),
        (12, 12),
    ],
)
def test_durations_are_read_in_seconds(text: str | float, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "h", "1x", "-5s", "0", "ten minutes", "1h30", "nan", "inf", True]
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="duration"):
        parse_duration(text)


def test_a_missing_file_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml"):
        read_toml(tmp_path / "nowhere.toml")


def test_later_layers_win_and_none_means_not_given() -> None:
    assert merge({"a": 1, "b": 1}, {"b": 2, "c-d": 3}, {"a": None}) == {"a": 1, "b": 2, "c_d": 3}
