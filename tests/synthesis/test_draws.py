"""Draws: ranges by severity, fixed values, records, clear refusals."""

from __future__ import annotations

import pytest
import torch

from autodir.errors import ConfigError
from autodir.synthesis.draws import Draws, column, mask


def drawn(fixed: dict[str, float | str] | None = None, count: int = 4) -> Draws:
    severity = torch.linspace(0, 1, count)
    return Draws(severity, torch.Generator().manual_seed(0), fixed)


def test_severity_maps_its_ends_to_the_ends_of_the_range() -> None:
    draw = drawn()
    assert draw.linear(2, 50)[[0, -1]].tolist() == [2, 50]
    assert draw.logarithmic(2, 50)[[0, -1]].tolist() == pytest.approx([2, 50])
    assert float(draw.logarithmic(1, 16)[1]) == pytest.approx(16 ** (1 / 3))


def test_fixing_one_value_leaves_the_next_draw_as_it_was() -> None:
    free, bound = drawn(), drawn({"a": 7.0})
    free.named("a", free.uniform())
    assert bound.named("a", bound.uniform()).tolist() == [7.0] * 4
    assert torch.equal(free.uniform(), bound.uniform())


def test_fixing_a_kind_leaves_the_next_draw_as_it_was() -> None:
    free, bound = drawn(), drawn({"kind": "y"})
    free.kind({"x": 1, "y": 1})
    assert bound.kind({"x": 1, "y": 1}) == ["y"] * 4
    assert torch.equal(free.uniform(), bound.uniform())


def test_a_parameter_is_recorded_only_where_it_matters() -> None:
    draw = drawn()
    draw.named("a", torch.ones(4), torch.tensor([True, False, True, False]))
    assert draw.parameters() == [{"a": 1.0}, {}, {"a": 1.0}, {}]


def test_a_parameter_can_imply_the_kind() -> None:
    assert drawn({"iso": 400.0}).kind({"x": 1, "y": 0}, {"iso": "y"}) == ["y"] * 4
    both = drawn({"iso": 400.0, "kind": "x"})
    assert both.kind({"x": 0, "y": 1}, {"iso": "y"}) == ["x"] * 4


def test_kinds_come_by_weight() -> None:
    kinds = drawn(count=4000).kind({"x": 3, "y": 1})
    assert kinds.count("x") / 4000 == pytest.approx(0.75, abs=0.03)
    assert int(mask(kinds, "x").sum()) == kinds.count("x")


def test_a_misspelled_kind_gets_its_nearest_match() -> None:
    with pytest.raises(ConfigError) as caught:
        drawn({"kind": "gausian"}).kind({"gaussian": 1, "gray": 1})
    assert "gaussian" in caught.value.hint


def test_a_kind_like_no_other_gets_the_list() -> None:
    with pytest.raises(ConfigError) as caught:
        drawn({"kind": "qqq"}).kind({"gaussian": 1, "gray": 1})
    assert caught.value.hint == "one of: gaussian, gray"


@pytest.mark.parametrize("value", [-1.0, 11.0, "much"])
def test_a_value_out_of_bounds_or_in_words_is_refused(value: float | str) -> None:
    with pytest.raises(ConfigError, match="a must"):
        drawn({"a": value}).named("a", torch.zeros(4), None, (0, 10))


def test_a_column_broadcasts_over_images() -> None:
    like = torch.zeros(4, 3, 2, 2, dtype=torch.float64)
    values = column(torch.arange(4), like)
    assert values.shape == (4, 1, 1, 1)
    assert values.dtype == torch.float64
