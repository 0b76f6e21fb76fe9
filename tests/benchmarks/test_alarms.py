"""False alarms by kind: what is shown to the model, and what a row says of its answers."""

from types import SimpleNamespace

import pytest
import torch


class Says:
    """Finds darkness where the mean is below a third, and nothing elsewhere."""

    def diagnose(self, source):
        dark = float(source.pixels.mean()) < 1 / 3
        return SimpleNamespace(main=SimpleNamespace(key="underexposure") if dark else None)


@pytest.fixture
def photos():
    generator = torch.Generator().manual_seed(0)
    scene = torch.rand(1, 3, 6, 8, generator=generator)
    scene = torch.nn.functional.interpolate(scene, (96, 128), mode="bilinear")
    return [scene * share for share in (1.0, 0.9, 0.8, 0.7, 0.2)]


def test_every_kind_has_its_photos_and_the_extremes_are_chosen_from_them(program, photos):
    alarms = program("alarms")
    named = alarms.alarms(Says(), photos)
    assert set(named) == {*alarms.CLEAN, *alarms.OPEN, *alarms.EXTREMES}
    assert named["as it is"] == ["", "", "", "", "underexposure"]
    assert named["darkest scenes"] == ["underexposure"]
    assert named["gray and pale scenes"] == [""]
    assert all(len(named[kind]) == 5 for kind in alarms.CLEAN | alarms.OPEN)


def test_each_change_is_seen_and_makes_a_picture(program, photos):
    alarms = program("alarms")
    for kind, change in (alarms.CLEAN | alarms.OPEN).items():
        shown = change(photos[0], torch.Generator().manual_seed(1))
        assert shown.shape[:2] == (1, 3), kind
        assert 0 <= float(shown.min()) <= float(shown.max()) <= 1, kind
        same = shown.shape == photos[0].shape and torch.equal(shown, photos[0])
        assert same == (kind == "as it is"), kind


def test_a_row_counts_what_was_named(program):
    rows = program("alarms").rows_of({"sepia": ["", "rain", "", "rain"], "drawing": [""]})
    assert rows == [["sepia", "4", "50.0%", "rain 2"], ["drawing", "1", "100.0%", "·"]]
