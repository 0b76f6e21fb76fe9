"""The gate in front of the experts, and how one is added."""

import pytest
import torch
from torch import Tensor, nn

from autodir.correction.experts import LEAST_SHARE, Experts
from autodir.errors import ContractError


class Scales(Experts):
    """Experts that multiply by a number of their own."""

    def fresh(self, key: str) -> nn.Module:
        return nn.Conv2d(1, 1, 1, bias=False)

    def total(self, x: Tensor, told: Tensor) -> Tensor:
        return sum(
            (share.view(-1, 1, 1, 1) * expert(x) for expert, share in self.asked(told)),
            torch.zeros_like(x),
        )


def scales() -> Scales:
    """+1 asks for the first, which triples, and -1 for the second, which negates."""
    module = Scales(2, ("noise", "rain"))
    module.gate.weight.data = torch.tensor([[6.0, 6.0], [-6.0, -6.0]])
    module.gate.bias.data.zero_()
    for expert, factor in zip(module.experts.values(), (3.0, -1.0), strict=True):
        expert.weight.data.fill_(factor)
    return module.eval().requires_grad_(False)


IMAGE, TOLD = torch.full((1, 1, 2, 2), 0.5), torch.ones(1, 2)


def test_the_instruction_says_whose_answer_counts() -> None:
    for told, expected in ((TOLD, 1.5), (-TOLD, -0.5), (0 * TOLD, 0.5)):
        torch.testing.assert_close(
            scales().total(IMAGE, told), torch.full_like(IMAGE, expected), atol=1e-4, rtol=0
        )


def test_who_is_not_asked_is_not_called() -> None:
    module = scales()
    assert float(module.shares(TOLD)[0, 1]) < LEAST_SHARE
    assert [expert for expert, _ in module.asked(TOLD)] == [module.experts["noise"]]
    assert len(list(module.asked(torch.cat([TOLD, -TOLD])))) == 2


def test_nobody_asks_for_a_fresh_one() -> None:
    assert not list(Scales(2, ("noise",)).asked(TOLD))


def test_a_further_expert_leaves_the_others_as_they_are() -> None:
    module = scales()
    before = module.total(IMAGE, TOLD)
    fresh = module.add_expert("haze")
    assert module.add_expert("haze") is fresh
    assert module.config["experts"] == list(module.experts) == ["noise", "rain", "haze"]
    assert torch.equal(module.total(IMAGE, TOLD), before)


def test_instruction_of_another_width_is_refused() -> None:
    with pytest.raises(ContractError, match="2"):
        scales().shares(torch.ones(1, 3))


def test_a_renewed_expert_has_learnt_nothing_yet() -> None:
    module = scales()
    others = module.experts["noise"].weight.clone()
    before = module.experts["rain"].weight.clone()
    assert module.renewed("rain", 3) is module.experts["rain"]
    assert not torch.equal(module.experts["rain"].weight, before)
    assert torch.equal(module.experts["noise"].weight, others)
    assert module.renewed("haze", 3) is module.experts["haze"]


def test_renewed_experts_of_a_seed_are_the_same_and_leave_the_generator() -> None:
    module = scales()
    first = module.renewed("rain", 3).state_dict()
    first = {name: value.clone() for name, value in first.items()}
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    again = module.renewed("rain", 3).state_dict()
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(first[name], value) for name, value in again.items())
    other = module.renewed("rain", 4).state_dict()
    assert not all(torch.equal(first[name], value) for name, value in other.items())
