"""The experts: where they start, who asks for them, how far they look."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from autodir.correction.experts import LEAST_SHARE
from autodir.correction.refinement import Refinement
from autodir.errors import ContractError

DEEPER = {"noise": {"dilations": (1, 2, 4), "width": 12}}


def refinement(
    *, trained: bool = True, dilations: tuple[int, ...] = (1, 2),
    shapes: Mapping[str, Mapping[str, Any]] | None = None,
) -> Refinement:  # fmt: skip
    """A small one; ``trained``: endings that do something, and +1 asks for noise, -1 for rain."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = Refinement(
            embed_dim=5, experts=("noise", "rain"), width=8, dilations=dilations, shapes=shapes
        )
        if trained:
            for expert in module.experts.values():
                expert.ending.weight.data = torch.randn(expert.ending.weight.shape) * 0.1
            module.gate.weight.data = torch.tensor([[4.0], [-4.0]]).expand(2, 5).clone()
            module.gate.bias.data.zero_()
    return module.eval().requires_grad_(False)


def three(height: int, width: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(2, 3, height, width, generator=generator) for _ in range(3)]


TOLD = torch.ones(2, 5)


def test_fresh_refinement_adds_exactly_nothing() -> None:
    module = refinement(trained=False)
    assert not module(*three(16, 16), TOLD).any()
    assert not module.experts["noise"](*three(16, 16)).any()


@pytest.mark.parametrize("shapes", [None, DEEPER])
@pytest.mark.parametrize("size", [(1, 1), (3, 7), (1, 50), (33, 18)])
def test_any_size_is_refined(size: tuple[int, int], shapes: Any) -> None:
    result = refinement(shapes=shapes)(*three(*size), TOLD)
    assert result.shape == (2, 3, *size)
    assert bool(torch.isfinite(result).all())


def test_each_of_the_three_images_is_read() -> None:
    images, module = three(16, 16), refinement()
    expected = module(*images, TOLD)
    for index in range(3):
        changed = [image.clone() for image in images]
        changed[index] += 0.1
        assert not torch.allclose(module(*changed, TOLD), expected, atol=1e-4)
    assert torch.equal(module(*images, TOLD), expected)


def test_the_instruction_says_whose_answer_counts() -> None:
    images, module = three(16, 16), refinement()
    for told, key in ((TOLD, "noise"), (-TOLD, "rain")):
        torch.testing.assert_close(module(*images, told), module.experts[key](*images))
    between = module(*images, 0 * TOLD)
    both = [module.experts[key](*images) for key in ("noise", "rain")]
    torch.testing.assert_close(between, (both[0] + both[1]) / 2)


def test_who_is_not_asked_is_not_computed() -> None:
    module = refinement()
    module.experts["rain"].forward = None  # type: ignore[assignment]  # would fail if called
    assert float(module.shares(TOLD)[0, 1]) < LEAST_SHARE
    assert module(*three(8, 8), TOLD).any()


def test_photos_of_a_batch_do_not_know_of_each_other() -> None:
    images, module = three(16, 16), refinement()
    told = torch.stack([torch.ones(5), -torch.ones(5)])
    both = module(*images, told)
    alone = torch.cat([module(*(i[k : k + 1] for i in images), told[k : k + 1]) for k in (0, 1)])
    torch.testing.assert_close(both, alone)


@pytest.mark.parametrize("shapes", [None, DEEPER])
@pytest.mark.parametrize("dilations", [(1,), (1, 2), (1, 4, 1)])
def test_reach_is_how_far_a_pixel_is_felt(dilations: tuple[int, ...], shapes: Any) -> None:
    module = refinement(dilations=dilations, shapes=shapes)
    side = 2 * module.reach + 24
    images = three(side, side)
    changed = [image.clone() for image in images]
    for image in changed:
        image[..., side // 2, side // 2] += 0.5
    moved = (module(*changed, TOLD) - module(*images, TOLD)).abs().amax((0, 1)) > 0
    rows = moved.any(1).nonzero().flatten()
    far = max(side // 2 - int(rows.min()), int(rows.max()) - side // 2)
    assert module.reach - 4 <= far <= module.reach


def test_a_further_expert_changes_no_answer_until_it_is_asked_for() -> None:
    module, images = refinement(), three(16, 16)
    expected = module(*images, TOLD)
    noise, fresh = module.experts["noise"], module.add_expert("haze")
    assert torch.equal(module(*images, TOLD), expected)
    assert list(module.experts) == module.config["experts"] == ["noise", "rain", "haze"]
    assert module.shares(TOLD).shape == (2, 3)
    assert module.add_expert("haze") is fresh
    assert module.add_expert("noise") is noise
    again = Refinement(**module.config)
    again.load_state_dict(module.state_dict())
    assert torch.equal(again.eval()(*images, TOLD), expected)


def test_instruction_of_another_width_is_refused() -> None:
    with pytest.raises(ContractError, match="5"):
        refinement()(*three(8, 8), torch.ones(2, 6))


@pytest.mark.parametrize("shapes", [None, DEEPER])
def test_configuration_builds_the_same_network(shapes: Any) -> None:
    module = refinement(shapes=shapes)
    again = Refinement(**module.config)
    again.load_state_dict(module.state_dict())
    assert again.config == module.config
    assert torch.equal(again(*three(8, 8), TOLD), module(*three(8, 8), TOLD))


def test_an_expert_may_have_a_shape_of_its_own() -> None:
    module = refinement(shapes=DEEPER | {"haze": {"dilations": (1,)}})
    noise, rain, haze = (module.add_expert(key) for key in ("noise", "rain", "haze"))
    assert (noise.intro.out_channels, len(noise.body)) == (12, 3)
    assert (rain.intro.out_channels, len(rain.body)) == (8, 2)
    assert (haze.intro.out_channels, len(haze.body)) == (8, 1)
    assert module.reach == noise.reach > rain.reach > haze.reach
