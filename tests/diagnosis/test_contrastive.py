"""The published head: cosines of one crop, or of several in the mean."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from autodir.diagnosis.contrastive import ContrastiveHead, center_crop


def photo(height: int, width: int) -> Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))


def prompts(count: int = 4) -> Tensor:
    drawn = torch.randn(count, 8, generator=torch.Generator().manual_seed(1))
    return F.normalize(drawn, dim=-1)


def features(views: int) -> Tensor:
    return torch.randn(2, views, 8, generator=torch.Generator().manual_seed(2))


def test_center_is_cut_at_native_resolution() -> None:
    image = photo(11, 8)
    assert torch.equal(center_crop(image, 4), image[..., 3:7, 2:6])


@pytest.mark.parametrize("height", [1, 2, 3, 4])
def test_small_photo_is_centered_on_black(height: int) -> None:
    image = photo(height, 9) + 0.5
    crop = center_crop(image, 4)
    above = -(-(4 - height) // 2)  # the odd row lies above
    assert torch.equal(crop[..., above : above + height, :], image[..., 2:6])
    assert float(crop.sum()) == pytest.approx(float(image[..., 2:6].sum()), rel=1e-5)


def test_one_crop_is_the_center_and_more_are_a_grid_with_the_whole() -> None:
    head, image = ContrastiveHead(), photo(64, 64)
    assert torch.equal(head.views(image, 32, 1)[:, 0], center_crop(image, 32))
    assert head.views(image, 32, 3).shape == (1, 9 + 1, 3, 32, 32)


def test_one_view_gives_the_published_softmax() -> None:
    head, seen = ContrastiveHead(), features(1)
    logits, _ = head.judge(seen, prompts(), 3)
    expected = (F.normalize(seen[:, 0], dim=-1) @ prompts().T / 0.07).softmax(-1)
    torch.testing.assert_close(logits.softmax(-1), expected)
    # Fewer prompts: the same as if the others had never been asked about.
    some = (F.normalize(seen[:, 0], dim=-1) @ prompts()[[0, 3]].T / 0.07).softmax(-1)
    torch.testing.assert_close(logits[:, [0, 3]].softmax(-1), some)


def test_several_views_give_the_mean_of_their_probabilities() -> None:
    head, seen = ContrastiveHead(), features(5)
    logits, _ = head.judge(seen, prompts(), 3)
    each = [head.judge(seen[:, n : n + 1], prompts(), 3)[0].softmax(-1) for n in range(5)]
    torch.testing.assert_close(logits.exp(), torch.stack(each).mean(0))


@pytest.mark.parametrize("clean", [0, 2, 3])
def test_presence_of_one_half_is_the_published_rule_to_stop(clean: int) -> None:
    logits, presence = ContrastiveHead().judge(features(3), prompts(), clean)
    others = [index for index in range(4) if index != clean]
    found = presence.sigmoid() >= 0.5
    assert torch.equal(found, logits[:, others] >= logits[:, [clean]])
    assert torch.equal(found.any(-1), logits.argmax(-1) != clean)


def test_published_head_takes_no_measures() -> None:
    head = ContrastiveHead()
    assert not head.measured
    assert head.measures(torch.rand(2, 3, 8, 8)).shape == (2, 0)
