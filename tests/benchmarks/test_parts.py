"""What each part adds: which parts are asked on which photos, and what a row says of the gains."""

from types import SimpleNamespace

import pytest
import torch

from autodir.prompts import load_taxonomy
from autodir.training.batches import Drawn


class Half:
    """Both parts undo half of a degradation, the correction alone a quarter, the diffusion none."""

    def __init__(self):
        self.asked = []

    def apply_parts(self, photo, key, *, diffusion=True, correction=True, seed=0):
        self.asked.append((key, diffusion, correction))
        share = {(True, True): 0.5, (False, True): 0.75, (True, False): 1.0}[diffusion, correction]
        return 0.5 + share * (photo - 0.5)


class Dark:
    """Gray photos of 0.5 that came as 0.1."""

    taxonomy = load_taxonomy()

    def __init__(self):
        self.kinds = []

    def alone(self, key):
        self.kinds.append(key)
        return self

    def with_share(self, share):
        self.kinds.append(share)
        return self

    def draw(self, count, size, generator, scale):
        photo = torch.full((count, 3, size, size), 0.1)
        label = torch.full((count,), self.taxonomy.index("underexposure"))
        return Drawn(
            degraded=photo, target=torch.full_like(photo, 0.5), label=label, presence=label
        )


@pytest.mark.parametrize("key", ["underexposure", "several"])
def test_every_part_sees_the_same_photos_and_their_label(program, key, monkeypatch):
    parts, restorer, batches = program("parts"), Half(), Dark()
    monkeypatch.setattr(parts, "SIDE", 16)
    found = parts.gains(restorer, batches, key, 5)
    assert batches.kinds == [(0, 1, 0) if key == "several" else key]
    assert {name: len(each) for name, each in found.items()} == dict.fromkeys(parts.PARTS, 8)
    assert {asked[0] for asked in restorer.asked} == {"underexposure"}
    assert found["both"] == pytest.approx([6.02] * 8, abs=0.01)
    assert found["correction"] == pytest.approx([2.5] * 8, abs=0.01)
    assert found["diffusion"] == pytest.approx([0] * 8, abs=0.01)


def test_a_row_says_what_the_diffusion_adds(program):
    parts = program("parts")
    gains = {"diffusion": [1.0, 1.0], "correction": [2.0, 3.0], "both": [2.5, 3.5]}
    rows = parts.rows_of({"low_resolution": gains})
    assert rows == [["low resolution", "2", "+1.00", "+2.50", "+3.00", "+0.50 (+0.50…+0.50)"]]
    restorer = SimpleNamespace(info={"model": "small"})
    assert parts.report({"rain": gains}, restorer)["gains"]["rain"]["both"] == [2.5, 3.5]
