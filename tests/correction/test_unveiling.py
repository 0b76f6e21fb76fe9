"""The experts of veils: where they start, what they undo, photos of any size."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from autodir.correction import unveiling as module_under_test
from autodir.correction.unveiling import DENSEST, Unveiler, Unveiling, lifted
from autodir.errors import ContractError
from autodir.synthesis.light import add_haze

TOLD = torch.ones(1, 5)
SHAPE = {"width": 8, "inner": 8, "wide": (8, 12), "dilations": (1, 2)}


def photos(*size: int, count: int = 1) -> Tensor:
    return torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(1))


def unveiling(*, trained: bool = True, asked: float = 8.0) -> Unveiling:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = Unveiling(embed_dim=5, **SHAPE)  # type: ignore[arg-type]
        module.gate.bias.data.fill_(asked)
        if trained:
            expert = expert_of(module)
            for part in (expert.out, expert.air):
                part.weight.data = 0.1 * torch.randn(part.weight.shape)
    return module.eval().requires_grad_(False)


def expert_of(module: Unveiling) -> Unveiler:
    expert = module.experts["haze"]
    assert isinstance(expert, Unveiler)
    return expert


def saying(module: Unveiling, depth: float, moved: float = 0.0) -> Unveiling:
    """The same with one depth for all photos, and the air moved by so much off their mean."""
    expert = expert_of(module)
    for part in (expert.out, expert.air):
        part.weight.data.zero_()
    assert expert.out.bias is not None
    expert.out.bias.data = torch.tensor([depth, 0.0])
    expert.air.bias.data.fill_(moved)
    return module


def test_a_fresh_expert_leaves_a_photo() -> None:
    photo = photos(50, 70)
    torch.testing.assert_close(unveiling(trained=False).unveiled(photo, TOLD), photo)


def test_who_is_not_asked_gives_the_photo_itself() -> None:
    photo = photos(20, 30)
    assert unveiling(asked=-8.0).unveiled(photo, TOLD) is photo


@pytest.mark.parametrize("size", [(1, 1), (2, 90), (37, 41), (64, 64), (33, 900)])
def test_any_size_is_unveiled(size: tuple[int, int]) -> None:
    photo = photos(*size)
    before = photo.clone()
    result = unveiling().unveiled(photo, TOLD)
    assert torch.equal(photo, before)
    assert result.shape == photo.shape
    assert 0 <= float(result.min()) <= float(result.max()) <= 1


def test_a_veil_of_known_depth_and_air_is_undone() -> None:
    """The air is looked for everywhere alike here, and so is the mean, moved to where it is."""
    scene, air, depth = 0.2 + 0.3 * photos(64, 48), torch.tensor(0.9), 1.2
    hazy = add_haze(scene, torch.tensor(-depth).exp(), air)
    module = saying(unveiling(asked=20.0), depth, float(air - hazy.mean()))
    lights = (hazy.mean((2, 3)) - hazy.mean()).abs().max()  # the colors of the mean differ a little
    result = module.unveiled(hazy, TOLD)
    tolerance = float(torch.tensor(depth).expm1() * lights) + 2e-3
    torch.testing.assert_close(result, scene, atol=tolerance, rtol=0)
    assert float((hazy - scene).abs().mean()) > 10 * float((result - scene).abs().mean())


def test_the_air_is_the_color_of_where_it_is_looked_for() -> None:
    photo = torch.full((1, 3, 64, 64), 0.2)
    photo[..., :32, :] = torch.tensor([0.7, 0.8, 0.9]).view(3, 1, 1)
    expert = expert_of(unveiling(trained=False))
    expert.color.weight.data.zero_()
    found = expert(photo)[2].flatten()
    torch.testing.assert_close(found, photo.mean((0, 2, 3)), atol=1e-4, rtol=0)
    seen, mean = expert.seen(photo)
    brightest = seen - seen.mean((2, 3), keepdim=True)
    top = brightest[..., :8, :].mean((0, 2, 3)) - brightest[..., 8:, :].mean((0, 2, 3))
    expert.out.weight.data[1] = 1e4 * top.view(-1, 1, 1)
    looked_for = expert.out(seen)[:, 1].flatten().argmax()
    found = expert(photo)[2].flatten()
    torch.testing.assert_close(found, mean.flatten(2)[0, :, looked_for], atol=1e-2, rtol=0)


def test_no_more_is_undone_than_the_densest_veil() -> None:
    module = saying(unveiling(asked=20.0), 99.0, 0.3)
    photo = 0.4 + 0.02 * photos(32, 32)
    air = photo.mean((2, 3), keepdim=True) + 0.3
    most = photo + torch.tensor(DENSEST).expm1() * (photo - air)
    torch.testing.assert_close(module.unveiled(photo, TOLD), most.clamp(0, 1), atol=1e-3, rtol=0)


def test_the_weight_says_how_much_is_lifted() -> None:
    photo, module = 0.4 + 0.2 * photos(40, 40), saying(unveiling(), 0.5)
    half, whole = (module.unveiled(photo, TOLD, weight) for weight in (0.2, 0.4))
    torch.testing.assert_close(2 * (half - photo), whole - photo, atol=1e-5, rtol=0)
    torch.testing.assert_close(module.unveiled(photo, TOLD, 0.0), photo)


def test_several_photos_are_asked_for_one_by_one() -> None:
    module, both = unveiling(), photos(40, 48, count=2)
    module.gate.weight.data[:] = 1.0
    module.gate.bias.data.zero_()
    told = torch.cat([TOLD, -2 * TOLD])
    result = module.unveiled(both, told)
    torch.testing.assert_close(result[:1], module.unveiled(both[:1], TOLD), atol=1e-5, rtol=0)
    torch.testing.assert_close(result[1], both[1], atol=1e-3, rtol=0)


def test_strips_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    photo, module = photos(70, 52), unveiling()
    whole = module.unveiled(photo, TOLD)
    monkeypatch.setattr(module_under_test, "STRIP", 52 * 9)
    torch.testing.assert_close(module.unveiled(photo, TOLD), whole, atol=1e-5, rtol=0)


def test_a_large_photo_is_looked_at_as_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module_under_test, "SEEN", 48)
    large = F.interpolate(photos(48, 36), scale_factor=3, mode="bilinear", align_corners=False)
    seen: list[Tensor] = []
    module = unveiling()
    expert_of(module).register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    result = module.unveiled(large, TOLD)
    assert seen[0].shape == (1, 3, 48, 36)
    slope, offset, air = expert_of(module)(seen[0])
    maps = F.interpolate(
        torch.cat([slope, offset], 1), (144, 108), mode="bilinear", align_corners=False
    )
    expected = lifted(large, maps[:, :1], maps[:, 1:], air).clamp(0, 1)
    torch.testing.assert_close(result, expected, atol=1e-3, rtol=0)


def test_every_place_knows_of_the_whole_photo() -> None:
    module = unveiling()
    photo = 0.3 + 0.4 * photos(96, 320)
    spotted = photo.clone()
    spotted[..., :40] = 0.9
    with torch.no_grad():
        slope, offset, _ = expert_of(module)(photo)
        moved, by, _ = expert_of(module)(spotted)
    assert bool(((moved - slope).abs() + (by - offset).abs()).amin((0, 1)).max() > 0)
    assert bool(((moved - slope)[..., -8:].abs() > 0).any())


def test_configuration_builds_the_same_network() -> None:
    module = unveiling()
    again = Unveiling(**module.config).eval()
    again.load_state_dict(module.state_dict())
    assert again.config == module.config
    assert torch.equal(again.unveiled(photos(24, 32), TOLD), module.unveiled(photos(24, 32), TOLD))


def test_instruction_of_another_width_is_refused() -> None:
    with pytest.raises(ContractError, match="5"):
        unveiling().unveiled(photos(8, 8), torch.ones(1, 6))
