"""The losses, each with its source.

Apart so that a part's file shows its data and its step, and a loss can be tested alone.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

EPSILON = 1e-8


def relative_error(restored: Tensor, target: Tensor, floor: float = 3e-4) -> Tensor:
    """Log of each image's mean squared error, half of it L1-like: the gradient of PSNR.

    With one mean over a mixed batch a task with large errors (darkness) drowns one with small
    errors (noise); the logarithm gives each image the same pull, in decibels.

    Args:
        restored: (B, 3, H, W).
        target: the same shape.
        floor: squared error below which an image is good enough (35 dB). Much lower, and the few
            nearly perfect images have gradients so much larger than all others that nothing else
            is learnt.

    Returns:
        (B,) losses.
    """
    difference = restored.float() - target.float()
    squared = difference.square().mean((1, 2, 3))
    absolute = difference.abs().mean((1, 2, 3))
    loss: Tensor = 0.5 * (squared + floor).log() + 0.5 * (absolute + floor**0.5).log()
    return loss


def decibels_gained(before: Tensor, after: Tensor, target: Tensor, floor: float = 1e-5) -> Tensor:
    """How much nearer each image came to its target: the change of its PSNR.

    Args:
        before, after, target: (B, 3, H, W).
        floor: squared error that counts as none.

    Returns:
        (B,) decibels.
    """
    errors = [
        (image - target).square().mean((1, 2, 3)).clamp_min(floor) for image in (before, after)
    ]
    return 10 * (errors[0] / errors[1]).log10()


def levelled(target: Tensor, image: Tensor) -> Tensor:
    """A target in the light of an image: for each channel the a · target + b nearest to it.

    Without this the loss of a brightened crop is its level, which a few pixels cannot tell, and the
    grain and the blotches that they do tell are lost in it.

    Args:
        target, image: (B, 3, H, W) in [0, 1].

    Returns:
        The same shape, in [0, 1]; a is kept in [1/2, 2].
    """
    means = [part.mean((2, 3), keepdim=True) for part in (target, image)]
    apart, seen = target - means[0], image - means[1]
    spread = apart.square().mean((2, 3), keepdim=True)
    factor = (apart * seen).mean((2, 3), keepdim=True) / spread.clamp_min(1e-6)
    return (apart * factor.clamp(0.5, 2) + means[1]).clamp(0, 1)


def fidelity_loss(probabilities: Tensor, labels: Tensor) -> Tensor:
    """1 - Σ_c sqrt(y_c · p̂_c), the fidelity loss of AutoDIR: (B, K) and (B, K) → (B,)."""
    return 1 - (labels * probabilities + EPSILON).sqrt().sum(-1)


def clean_target_loss(probabilities_of_target: Tensor, labels: Tensor) -> Tensor:
    """Σ_c sqrt(y_c · p̂_c(I_gt)): the target must not show its partner's degradation; → (B,)."""
    return (labels * probabilities_of_target + EPSILON).sqrt().sum(-1)


def presence_loss(logits: Tensor, present: Tensor) -> Tensor:
    """Binary cross-entropy of the independent presence heads, (B, K) logits and 0/1 → (B,)."""
    return F.binary_cross_entropy_with_logits(logits, present, reduction="none").mean(-1)
