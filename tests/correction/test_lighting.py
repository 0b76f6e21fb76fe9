"""The experts of light: where they start, what they read, how a large photo is put together."""

import pytest
import torch
from torch import Tensor

from autodir.correction import lighting
from autodir.correction.lighting import (
    BASIS,
    FIRST,
    THUMBNAIL,
    Light,
    Lighting,
    Veil,
    basis,
    statistics,
)
from autodir.imaging.neighborhoods import shrunk


def lit(*, trained: bool = True) -> Lighting:
    """+1 asks for haze, -1 for darkness; trained ones say what their endings' biases are."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = Lighting(embed_dim=5, hidden=8, members=2)
        module.gate.weight.data = torch.tensor([[4.0], [-4.0]]).expand(2, 5).clone()
        module.gate.bias.data.zero_()
        if trained:
            for expert in module.experts.values():
                assert isinstance(expert, Light)
                expert.standardize(torch.rand(20, len(expert.center)))
                for member in expert.members:
                    member[-1].weight.data = 0.2 * torch.randn(member[-1].weight.shape)  # type: ignore[index]
    return module.eval().requires_grad_(False)


def three(height: int, width: int, count: int = 1) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(count, 3, height, width, generator=generator) for _ in range(3)]


def scene(side: int = 96) -> Tensor:
    """A colorful one with something dark everywhere, as the prior has it."""
    generator = torch.Generator().manual_seed(2)
    coarse = torch.rand(1, 3, side // 4, side // 4, generator=generator).square()
    return torch.nn.functional.interpolate(coarse, scale_factor=4.0)


TOLD = torch.ones(1, 5)


def test_fresh_experts_change_exactly_nothing() -> None:
    images = three(40, 24)
    before = images[2].clone()
    module = lit(trained=False)
    torch.testing.assert_close(module.relight(*images, TOLD), before, atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", [(1, 1), (3, 7), (1, 50), (300, 17), (196, 260)])
def test_any_size_is_relit(size: tuple[int, int]) -> None:
    images = three(*size)
    before = images[2].clone()
    result = lit().relight(*images, TOLD)
    assert result is images[2]
    assert result.shape == (1, 3, *size)
    assert bool(torch.isfinite(result).all())
    assert not torch.equal(result, before)


def test_statistics_do_not_depend_on_the_size_of_a_photo() -> None:
    large = scene(128)
    small = torch.nn.functional.interpolate(large, scale_factor=0.5, mode="nearest")
    noted = [statistics(image, Veil.of(image).lifted(image)) for image in (large, small)]
    assert noted[0].shape == noted[1].shape == (1, noted[0].shape[1])
    assert float((noted[0] - noted[1]).abs().mean()) < 0.03
    assert float((noted[0] - statistics(0.4 * large, 0.4 * large)).abs().mean()) > 0.1


def test_photos_of_a_batch_do_not_know_of_each_other() -> None:
    both = torch.cat([scene(), scene().flip(-1).sqrt()])
    lifted = Veil.of(both).lifted(both)
    for index in range(2):
        one = both[index : index + 1]
        alone = Veil.of(one).lifted(one)
        torch.testing.assert_close(lifted[index : index + 1], alone)
        noted = statistics(both, lifted)[index : index + 1]
        torch.testing.assert_close(noted, statistics(one, alone), atol=1e-5, rtol=1e-4)


def test_the_veil_of_a_hazy_scene_is_lifted() -> None:
    clear = scene()
    hazy = 0.4 * clear + 0.6 * torch.tensor([0.9, 0.9, 0.95]).view(1, 3, 1, 1)
    lifted = Veil.of(hazy).lifted(hazy)
    assert float((lifted - clear).abs().mean()) < 0.5 * float((hazy - clear).abs().mean())


def test_the_veil_of_a_thumbnail_serves_the_whole_photo() -> None:
    hazy = 0.5 * scene(256) + 0.45
    veil = Veil.of(shrunk(hazy, THUMBNAIL))
    whole = veil.lifted(hazy)
    parts = [veil.lifted(hazy[..., top : top + 100, :], top, 256) for top in range(0, 256, 100)]
    torch.testing.assert_close(torch.cat(parts, dim=-2), whole)
    small = shrunk(hazy, THUMBNAIL)
    assert float((shrunk(whole, THUMBNAIL) - veil.lifted(small)).abs().mean()) < 0.05


def test_the_basis_holds_what_its_numbers_say() -> None:
    degraded, restored, corrected = three(4, 5)
    images = list(basis(degraded, degraded / 2, restored, corrected))
    assert [image.shape for image in images] == BASIS * [corrected.shape]
    assert torch.equal(images[FIRST], corrected)
    assert torch.equal(images[0], degraded)
    assert torch.equal(images[4], restored)
    assert bool((images[-1] == 1).all())


@pytest.mark.parametrize("weight", [1.0, 0.5])
def test_relighting_mixes_the_basis_by_the_shares(weight: float) -> None:
    images, module = three(100, 90), lit()
    expert = module.experts["haze"]
    assert isinstance(expert, Light)
    veil = Veil.of(images[0])
    lifted = veil.lifted(images[0])
    shares = expert(expert.standard(statistics(images[0], lifted)))
    made = torch.stack(list(basis(images[0], lifted, *images[1:])), dim=2)
    mixed = torch.einsum("bck,bckhw->bchw", shares, made)
    expected = torch.lerp(images[2], mixed, weight)
    torch.testing.assert_close(
        module.relight(*images, TOLD, weight), expected, atol=1e-4, rtol=1e-4
    )


def late(told: float) -> Lighting:
    """One that says of every photo that so much is to be added."""
    module = Lighting(embed_dim=5, experts=("rain",), hidden=8, members=1, late=("rain",))
    module.gate.bias.data.fill_(20.0)
    expert = module.experts["rain"]
    assert isinstance(expert, Light)
    last = expert.members[0][-1]  # type: ignore[index]
    last.bias.data.view(3, BASIS)[:, BASIS - 1] = told / 0.3
    return module.eval().requires_grad_(False)


@pytest.mark.parametrize(("told", "done"), [(0.015, 0.0), (0.035, 0.5), (-0.035, 0.5), (0.1, 1.0)])
def test_a_late_expert_leaves_slight_changes_out(told: float, done: float) -> None:
    images = three(60, 40)
    before = images[2].clone()
    result = late(told).relight(*images, TOLD)
    torch.testing.assert_close(result, before + done * told, atol=1e-4, rtol=0)


def test_a_late_expert_reads_what_was_corrected() -> None:
    images = three(60, 40)
    small, lifted, corrected = images
    read = [Light(8, 1, 0.0, late=late).noted(small, lifted, corrected) for late in (False, True)]
    assert torch.equal(read[0], statistics(small, lifted))
    assert torch.equal(read[1], statistics(small, corrected))


def test_configuration_keeps_who_is_late() -> None:
    module = late(0.1)
    again = Lighting(**module.config)
    again.load_state_dict(module.state_dict())
    assert again.config == module.config
    results = [one.relight(*three(40, 56), TOLD) for one in (module, again.eval())]
    assert torch.equal(*results)
    haze = module.renewed("haze", 0)
    assert isinstance(haze, Light)
    assert not haze.late
    assert module.config["late"] == ["rain"]


def test_the_members_of_an_expert_are_averaged() -> None:
    expert = lit().experts["haze"]
    assert isinstance(expert, Light)
    seen = torch.rand(3, len(expert.center))
    parts = [expert.told_by(member, seen) for member in expert.members]
    assert not torch.equal(parts[0], parts[1])
    torch.testing.assert_close(expert(seen), (parts[0] + parts[1]) / 2)


@pytest.mark.parametrize("size", [(31, 64), (300, 40)])
def test_strips_equal_the_whole(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    module, results = lit(), []
    for pixels in (1, 700, 10**6):
        monkeypatch.setattr(lighting, "STRIP", pixels)
        results.append(module.relight(*three(*size), TOLD))
    torch.testing.assert_close(results[0], results[1])
    torch.testing.assert_close(results[2], results[1])


def test_relighting_that_nobody_asks_for_changes_nothing() -> None:
    module = Lighting(embed_dim=5, hidden=8)
    images = three(40, 40)
    before = images[2].clone()
    assert torch.equal(module.relight(*images, TOLD), before)


def test_configuration_builds_the_same_network() -> None:
    module = lit()
    again = Lighting(**module.config)
    again.load_state_dict(module.state_dict())
    assert again.config == module.config
    results = [one.relight(*three(40, 56), TOLD) for one in (module, again.eval())]
    assert torch.equal(*results)


def test_a_network_can_begin_without_the_correction() -> None:
    expert = lit().experts["haze"]
    assert isinstance(expert, Light)
    seen = torch.randn(4, len(expert.center), generator=torch.Generator().manual_seed(6))
    before = expert(seen)
    expert.forget_correction()
    after = expert(seen)
    assert not after[..., FIRST].any()
    others = [index for index in range(BASIS) if index != FIRST]
    assert torch.equal(after[..., others], before[..., others])


def test_repairing_darkness_darkens_nothing() -> None:
    """A dark photo with a lamp: the mixture, which only knows the dark, would put it out."""
    module = lit(trained=False)
    for expert in module.experts.values():
        assert isinstance(expert, Light)
        for member in expert.members:
            last = member[-1]  # type: ignore[index]
            last.bias.data.view(3, BASIS)[:, 0] = 10.0  # 0.3 times that: +3 I …
            last.bias.data.view(3, BASIS)[:, 2] = -10.0  # … - 3 I²
    degraded = torch.full((1, 3, 32, 32), 0.1)
    degraded[..., 10:14, 10:14] = 0.95
    images = [degraded, degraded.clone(), 0.5 * degraded]
    haze = module.relight(images[0], images[1], images[2].clone(), TOLD)
    dark = module.relight(images[0], images[1], images[2].clone(), -TOLD)
    assert float(haze[0, 0, 12, 12]) < 0.95
    assert float(dark[0, 0, 12, 12]) == pytest.approx(0.95, abs=1e-5)
    assert float(dark[0, 0, 0, 0]) == pytest.approx(float(haze[0, 0, 0, 0]), abs=1e-5)
    assert float(dark[0, 0, 0, 0]) > 0.2
