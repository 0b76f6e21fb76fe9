"""Each loss gives what its equation gives by hand."""

import math

import pytest
import torch

from autodir.training.losses import (
    clean_target_loss,
    decibels_gained,
    fidelity_loss,
    presence_loss,
    relative_error,
)


def test_relative_error_is_the_logarithm_of_both_errors() -> None:
    target = torch.zeros(2, 3, 4, 4)
    restored = torch.stack([torch.full((3, 4, 4), 0.1), torch.full((3, 4, 4), 0.5)])
    floor = 3e-4
    expected = [
        0.5 * math.log(error**2 + floor) + 0.5 * math.log(error + floor**0.5)
        for error in (0.1, 0.5)
    ]
    torch.testing.assert_close(relative_error(restored, target), torch.tensor(expected))


def test_relative_error_pulls_every_image_alike() -> None:
    """Halving an error is worth the same, whether it was large or small."""
    target = torch.zeros(4, 3, 4, 4)
    levels = torch.tensor([0.8, 0.4, 0.2, 0.1]).view(4, 1, 1, 1)
    losses = relative_error(levels.expand(4, 3, 4, 4), target, floor=1e-12)
    torch.testing.assert_close(losses[0] - losses[1], losses[2] - losses[3], rtol=1e-3, atol=1e-3)


def test_perfect_image_has_a_finite_error_and_gradient() -> None:
    restored = torch.zeros(1, 3, 4, 4, requires_grad=True)
    relative_error(restored, torch.zeros(1, 3, 4, 4)).sum().backward()
    assert restored.grad is not None
    assert bool(torch.isfinite(restored.grad).all())


def test_fidelity_loss_by_hand() -> None:
    probabilities = torch.tensor([[0.64, 0.36], [0.0, 1.0]])
    labels = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    losses = fidelity_loss(probabilities, labels)
    torch.testing.assert_close(losses, torch.tensor([0.2, 0.0]), rtol=0.0, atol=1e-3)


def test_clean_target_loss_by_hand() -> None:
    probabilities = torch.tensor([[0.25, 0.75], [0.0, 1.0]])
    labels = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    losses = clean_target_loss(probabilities, labels)
    torch.testing.assert_close(losses, torch.tensor([0.5, 0.0]), rtol=0.0, atol=1e-3)


def test_square_roots_have_a_finite_gradient_at_zero() -> None:
    probabilities = torch.tensor([[0.0, 1.0]], requires_grad=True)
    fidelity_loss(probabilities, torch.tensor([[1.0, 0.0]])).sum().backward()
    assert probabilities.grad is not None
    assert bool(torch.isfinite(probabilities.grad).all())


def test_presence_loss_by_hand() -> None:
    logits = torch.tensor([[0.0, 2.0]])
    present = torch.tensor([[1.0, 0.0]])
    expected = (math.log(2) + math.log(1 + math.exp(2))) / 2
    assert float(presence_loss(logits, present)) == pytest.approx(expected)


def test_a_tenth_of_the_error_is_twenty_decibels() -> None:
    target = torch.zeros(2, 3, 4, 4)
    before = torch.stack([torch.full((3, 4, 4), 0.5), torch.full((3, 4, 4), 0.2)])
    gained = decibels_gained(before, before / torch.tensor([10.0, 1.0]).view(2, 1, 1, 1), target)
    torch.testing.assert_close(gained, torch.tensor([20.0, 0.0]))
    exact = decibels_gained(before, target, target)
    torch.testing.assert_close(exact, 10 * (torch.tensor([0.25, 0.04]) / 1e-5).log10())
