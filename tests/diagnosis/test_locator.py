"""The locator: maps of any photo, evidence of one length, and a head that blends it in."""

import copy
from pathlib import Path

import pytest
import torch

from autodir.checkpoint import Model, load_model, save_model
from autodir.diagnosis import streaks
from autodir.diagnosis.locator import SEEN, STATISTICS, Locator


@pytest.fixture
def locator() -> Locator:
    torch.manual_seed(0)
    return Locator(degradations=5, width=8, inner=8, dilations=(1, 2)).eval()


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (32, 40), (65, 33)])
def test_maps_have_a_figure_for_each_cell(locator: Locator, size: tuple[int, int]) -> None:
    maps = locator(torch.rand(2, 3, *size))
    assert maps.shape == (2, 5, -(-size[0] // 4), -(-size[1] // 4))
    assert maps.isfinite().all()


@pytest.mark.parametrize("size", [(1, 1), (40, 56), (24, SEEN + 60), (SEEN + 8, SEEN + 8)])
def test_evidence_has_one_length(locator: Locator, size: tuple[int, int]) -> None:
    evidence = locator.evidence(torch.rand(1, 3, *size))
    assert evidence.shape == (STATISTICS * 5,)
    assert evidence.isfinite().all()


def test_grain_is_seen_under_bfloat16(locator: Locator) -> None:
    """What bfloat16 would round away reaches the maps: the high-pass is taken before."""
    photo = torch.full((1, 3, 32, 32), 0.8)
    grainy = photo.clone()
    grainy[..., ::2, ::2] += 0.3 / 255
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        gap = (locator(grainy) - locator(photo)).abs().max()
    assert torch.equal(grainy.bfloat16(), photo.bfloat16())
    assert gap > 0.002


def test_a_change_stays_where_it_is(locator: Locator) -> None:
    photo = torch.rand(1, 3, 128, 128)
    spotted = photo.clone()
    spotted[..., :12, :12] = 1
    with torch.no_grad():
        moved = (locator(spotted) - locator(photo)).abs().amax((0, 1)) > 1e-4
    assert moved[:3, :3].all()
    assert not moved[12:, 12:].any()


def test_head_takes_the_evidence_and_is_stored(tiny_model: Model, tmp_path: Path) -> None:
    model = copy.deepcopy(tiny_model)
    photo = torch.rand(1, 3, 48, 64)
    plain = model.head.measures(photo)
    count = len(model.taxonomy.keys) - 1
    model.head.add_locator({"degradations": count, "width": 8, "inner": 8, "dilations": [1]})
    model.head.eval()
    told = model.head.measures(photo)
    assert told.shape[1] == plain.shape[1] + STATISTICS * count
    classical = plain.shape[1] - streaks.MEASURES
    assert torch.equal(told[:, :classical], plain[:, :classical])
    assert torch.equal(told[:, -streaks.MEASURES :], plain[:, classical:])
    model.head.add_blend(told.shape[1])
    torch.nn.init.normal_(model.head.blend.nets[0][-1].weight)
    save_model(model.eval(), tmp_path, dtype=torch.float32)
    again = load_model(tmp_path)
    with torch.no_grad():
        before, after = model.quality_model()(photo), again.quality_model()(photo)
    assert all(torch.allclose(x, y, atol=1e-5) for x, y in zip(before, after, strict=True))


def test_a_new_locator_takes_the_blend_whose_measures_it_moves(tiny_model: Model) -> None:
    head = copy.deepcopy(tiny_model.head).eval()
    photo = torch.rand(1, 3, 48, 64)
    for _ in range(2):  # a first one, and another in its place
        head.add_blend(head.measures(photo).shape[1])
        assert head.measured
        head.add_locator({"degradations": 8})
        assert not head.measured
        assert "measures" not in head.config
