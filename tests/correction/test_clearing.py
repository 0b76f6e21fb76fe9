"""The experts of what lies on the lens: where they start, what they may do, photos of any size."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from autodir.correction import clearing as module_under_test
from autodir.correction.clearing import STRONGEST, Clearer, Clearing, enlarged
from autodir.errors import ContractError
from autodir.imaging.grain import CELL

TOLD = torch.ones(1, 5)
SHAPE = {"width": 8, "inner": 8, "wide": (8, 12), "dilations": (1, 2)}


def photos(*size: int, count: int = 1) -> Tensor:
    return torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(1))


def clearing(*, trained: bool = True, asked: float = 8.0) -> Clearing:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = Clearing(embed_dim=5, **SHAPE)  # type: ignore[arg-type]
        module.gate.bias.data.fill_(asked)
        if trained:
            out = expert_of(module).out
            out.weight.data = 0.1 * torch.randn(out.weight.shape)
    return module.eval().requires_grad_(False)


def expert_of(module: Clearing) -> Clearer:
    expert = module.experts["raindrop"]
    assert isinstance(expert, Clearer)
    return expert


def saying(module: Clearing, cover: float, gain: float, color: float) -> Clearing:
    """The same with one answer for all photos."""
    out = expert_of(module).out
    out.weight.data.zero_()
    assert out.bias is not None
    out.bias.data = torch.tensor([torch.logit(torch.tensor(cover)), gain, color, color, color])
    return module


def test_a_fresh_expert_leaves_a_photo() -> None:
    photo = photos(50, 70)
    assert torch.equal(clearing(trained=False).cleared(photo, TOLD), photo)


def test_who_is_not_asked_gives_the_photo_itself() -> None:
    photo = photos(20, 30)
    assert clearing(asked=-8.0).cleared(photo, TOLD) is photo


@pytest.mark.parametrize("size", [(1, 1), (2, 90), (37, 41), (64, 64), (33, 900)])
def test_any_size_is_cleared(size: tuple[int, int]) -> None:
    photo = photos(*size)
    before = photo.clone()
    result = clearing().cleared(photo, TOLD)
    assert torch.equal(photo, before)
    assert result.shape == photo.shape
    assert 0 <= float(result.min()) <= float(result.max()) <= 1
    assert not torch.equal(result, photo)


def test_a_gain_of_minus_one_fills_with_the_color_of_the_surroundings() -> None:
    photo = photos(64, 48)
    result = saying(clearing(), 0.9999, -1.0, 0.0).cleared(photo, TOLD)
    mean = enlarged(F.avg_pool2d(photo, CELL), 64, 48)
    torch.testing.assert_close(result, mean, atol=1e-3, rtol=0)


def test_details_are_raised_and_colors_moved_where_something_lies() -> None:
    photo = 0.5 + 0.02 * (photos(32, 32) - 0.5)
    mean = enlarged(F.avg_pool2d(photo, CELL), 32, 32)
    result = saying(clearing(), 0.5, 2.0, 0.1).cleared(photo, TOLD)
    torch.testing.assert_close(result, photo + 0.5 * (2 * (photo - mean) + 0.1), atol=1e-4, rtol=0)
    most = saying(clearing(), 0.5, 99.0, 0.0).cleared(photo, TOLD)
    strongest = photo + 0.5 * STRONGEST * (photo - mean)
    torch.testing.assert_close(most, strongest, atol=1e-4, rtol=0)
    nothing = saying(clearing(), 1e-6, 2.0, 0.3).cleared(photo, TOLD)
    torch.testing.assert_close(nothing, photo, atol=1e-5, rtol=0)


def test_the_weight_says_how_much_is_added() -> None:
    photo, module = 0.4 + 0.2 * photos(40, 40), clearing()
    half, whole = (module.cleared(photo, TOLD, weight) for weight in (0.05, 0.1))
    torch.testing.assert_close(2 * (half - photo), whole - photo, atol=1e-5, rtol=0)
    torch.testing.assert_close(module.cleared(photo, TOLD, 0.0), photo, atol=1e-6, rtol=0)


def test_strips_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    photo, module = photos(70, 52), clearing()
    whole = module.cleared(photo, TOLD)
    monkeypatch.setattr(module_under_test, "STRIP", 52 * 9)
    torch.testing.assert_close(module.cleared(photo, TOLD), whole, atol=1e-5, rtol=0)


def test_a_large_photo_is_looked_at_as_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module_under_test, "SEEN", 48)
    small = photos(48, 36)
    large = F.interpolate(small, scale_factor=3, mode="bilinear", align_corners=False)
    seen: list[Tensor] = []
    module = clearing()
    expert_of(module).register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    change = module.cleared(large, TOLD) - large
    assert seen[0].shape == (1, 3, 48, 36)
    with torch.no_grad():
        slope, offset = expert_of(module)(seen[0])[1:]
    maps = F.interpolate(
        enlarged(torch.cat([slope, offset], 1), 48, 36), (144, 108), mode="bilinear",
        align_corners=False,
    )  # fmt: skip
    expected = (large + maps[:, :1] * large + maps[:, 1:]).clamp(0, 1) - large
    torch.testing.assert_close(change, expected, atol=1e-4, rtol=0)


def test_a_drop_is_felt_from_further_than_thirty_pixels() -> None:
    module = clearing()
    photo = 0.3 + 0.4 * photos(96, 320)
    spotted = photo.clone()
    spotted[..., 44:52, 156:164] = 0.9
    moved = (module.cleared(spotted, TOLD) - module.cleared(photo, TOLD)).abs().amax((0, 1))
    assert float(moved[48, 118:122].max()) > 1e-6
    assert not moved[:, :4].any()


def test_configuration_builds_the_same_network() -> None:
    module = clearing()
    again = Clearing(**module.config).eval()
    again.load_state_dict(module.state_dict())
    assert again.config == module.config
    assert torch.equal(again.cleared(photos(24, 32), TOLD), module.cleared(photos(24, 32), TOLD))


def test_instruction_of_another_width_is_refused() -> None:
    with pytest.raises(ContractError, match="5"):
        clearing().cleared(photos(8, 8), torch.ones(1, 6))
