"""Replay: what was made is trained on again, turned, until new samples take its place."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from autodir.training.replay import FIRST, Replay, turned


class Counted:
    """Batches of four images that all hold the number of their batch."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self, generator: torch.Generator, progress: float) -> Sequence[Tensor]:
        self.made += 1
        images = torch.full((4, 3, 8, 8), self.made / 128)
        return [images, torch.full((4, 2), self.made / 128)]


@pytest.mark.parametrize("every", [2, 3])
def test_a_new_batch_now_and_then(every: int) -> None:
    make = Counted()
    replay = Replay(make, every=every, batch=4)
    generator = torch.Generator().manual_seed(0)
    for _ in range(1 + 4 * every):
        images, vectors = replay.draw(generator, 0.0)
        assert torch.equal(images[:, 0, 0, 0], vectors[:, 0])
    assert make.made == FIRST + 4
    assert len(replay) == 4 * make.made


def test_without_reuse_each_step_has_its_own_batch() -> None:
    make = Counted()
    replay = Replay(make, every=1, batch=4)
    seen = [float(replay.draw(torch.Generator(), 0.0)[0][0, 0, 0, 0]) for _ in range(3)]
    assert seen == [1 / 128, 2 / 128, 3 / 128]
    assert len(replay) == 0


def test_old_samples_give_way() -> None:
    make = Counted()
    replay = Replay(make, every=2, batch=4, capacity=4 * FIRST)
    generator = torch.Generator().manual_seed(0)
    for _ in range(400):
        images, _ = replay.draw(generator, 0.0)
    assert len(replay) == 4 * FIRST
    assert float(images.min()) * 128 > FIRST  # nothing of the first batches is left


def test_half_precision_keeps_what_eight_bits_hold() -> None:
    levels = torch.arange(256.0).div(255).view(1, 1, 16, 16).expand(4, 3, 16, 16)
    replay = Replay(lambda generator, progress: [levels.clone()], every=2, batch=4)
    (images,) = replay.draw(torch.Generator().manual_seed(0), 0.0)
    found = (images * 255).round().flatten().unique()
    assert found.tolist() == list(range(256))
    assert images.dtype == torch.float32


def test_eight_turns_are_different() -> None:
    image = torch.arange(9.0).view(1, 1, 3, 3)
    assert len({tuple(turned(image, choice).flatten().tolist()) for choice in range(8)}) == 8
