"""The experts of sharpness: where they start, what they see of a photo, how it is filtered."""

import pytest
import torch
from torch import Tensor

from autodir.correction import sharpening as module_under_test
from autodir.correction.sharpening import Sharpening, Sharpness
from autodir.correction.spectrum import ANGLES, FIGURES, GAINS, RADII, STATISTICS

TOLD = torch.ones(1, 5)


def photos(*size: int, count: int = 1) -> Tensor:
    return torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(1))


def sharpening(*, trained: bool = True, asked: float = 8.0) -> Sharpening:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = Sharpening(embed_dim=5, hidden=8, members=2)
        module.gate.bias.data.fill_(asked)
        if trained:
            for expert in module.experts.values():
                assert isinstance(expert, Sharpness)
                for member in expert.members:
                    member[-1].weight.data = 0.3 * torch.randn(member[-1].weight.shape)  # type: ignore[index]
    return module.eval().requires_grad_(False)


def test_a_fresh_expert_leaves_a_photo() -> None:
    photo = photos(90, 70)
    result = sharpening(trained=False).sharpened(photo, TOLD)
    torch.testing.assert_close(result, photo, atol=1e-5, rtol=0)


def test_who_is_not_asked_gives_the_photo_itself() -> None:
    photo = photos(20, 30)
    assert sharpening(asked=-8.0).sharpened(photo, TOLD) is photo


@pytest.mark.parametrize("size", [(1, 1), (2, 300), (97, 41), (300, 260)])
def test_any_size_is_sharpened(size: tuple[int, int]) -> None:
    photo = photos(*size)
    before = photo.clone()
    result = sharpening().sharpened(photo, TOLD)
    assert torch.equal(photo, before)
    assert result.shape == photo.shape
    assert 0 <= float(result.min()) <= float(result.max()) <= 1
    if min(size) > 1:
        assert not torch.equal(result, photo)


def test_photos_of_a_batch_have_their_own_filters() -> None:
    both = photos(64, 80, count=2)
    both[1] = torch.nn.functional.avg_pool2d(both[1], 5, 1, 2)
    module = sharpening()
    together = module.sharpened(both, TOLD.expand(2, -1))
    for index in range(2):
        alone = module.sharpened(both[index : index + 1], TOLD)
        torch.testing.assert_close(together[index : index + 1], alone, atol=1e-3, rtol=0)


def test_the_weight_says_how_much_is_added() -> None:
    photo, module = 0.25 + 0.5 * photos(80, 80), sharpening()
    half, whole = (module.sharpened(photo, TOLD, weight) for weight in (0.05, 0.1))
    torch.testing.assert_close(2 * (half - photo), whole - photo, atol=1e-5, rtol=0)
    torch.testing.assert_close(module.sharpened(photo, TOLD, 0.0), photo, atol=1e-5, rtol=0)


def test_each_direction_sees_the_others_from_itself() -> None:
    module = sharpening()
    expert = module.experts["blur"]
    assert isinstance(expert, Sharpness)
    for member in expert.members:
        member[0].weight.data[:, -ANGLES:] = 0  # type: ignore[index]
    noted = torch.randn(1, STATISTICS, generator=torch.Generator().manual_seed(3))
    turned = noted.clone()
    figures = noted[:, : ANGLES * FIGURES].unflatten(1, (ANGLES, FIGURES))
    turned[:, : ANGLES * FIGURES] = figures.roll(1, 1).flatten(1)
    told, again = (expert(one).unflatten(1, (len(RADII), ANGLES)) for one in (noted, turned))
    assert told.numel() == GAINS
    torch.testing.assert_close(told.roll(1, 2), again)
    assert float(told.std()) > 0


def test_only_who_is_asked_looks_for_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module_under_test, "deconvolved", lambda photo, otherwise: 0 * photo)
    module, both = sharpening(asked=0.0), photos(20, 30, count=2)
    module.gate.weight.data.fill_(1.0)
    other = torch.ones_like(both)
    told = torch.tensor([[1.0] * 5, [-1.0] * 5])
    result = module.deconvolved(both, other, told)
    assert not result[0].any()
    assert torch.equal(result[1], other[1])
    assert module.deconvolved(both, other, told[1:]) is other
    assert not module.deconvolved(both, other, told[:1]).any()
