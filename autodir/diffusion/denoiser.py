"""The denoiser D(x, σ, c) → x̂0, the one shape in which samplers, guidance and tiles see a network.

Apart so that everything that combines denoisers may import the type without importing a network.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import torch
from torch import Tensor

from autodir.diffusion.schedule import Prediction, Schedule
from autodir.errors import ContractError
from autodir.records import Conditioning

Denoise = Callable[[Tensor, Tensor, Conditioning], Tensor]
"""(x (B, C, h, w), σ (B,), conditioning) → x̂0 (B, C, h, w), float32, with x = x0 + σ·ε."""


def predict_x0(
    unet: Callable[..., Any], schedule: Schedule, prediction: Prediction | None = None
) -> Denoise:
    """A network with (input, timestep, tokens) as a denoiser.

    The network receives [x / sqrt(σ² + 1), image latents], the noisy latents first. With x_t = x /
    sqrt(σ² + 1): ε: x̂0 = x − σ·ε;  v (arXiv:2202.00512, App. D): x̂0 = (x_t − σ·v) / sqrt(σ² + 1);
    sample: x̂0 itself.

    Args:
        unet: called as ``unet(input (B, 2C, h, w), timesteps (B,), encoder_hidden_states=tokens (B,
            L, D))``; returns an object with ``sample``, or the tensor (B, C, h, w).
        schedule: where σ becomes a timestep.
        prediction: what the network predicts; None takes the schedule's own.

    Returns:
        A denoiser. It runs the network in the network's own dtype and everything else in float32.
        Tokens and image latents of one row serve a whole batch.

    Raises:
        ContractError: ``prediction`` is unknown.
    """
    kind = prediction or schedule.config.prediction
    if kind not in get_args(Prediction):
        raise ContractError(
            f"unknown prediction {kind!r}", f"Choose one of {', '.join(get_args(Prediction))}."
        )

    def denoise(x: Tensor, sigma: Tensor, cond: Conditioning) -> Tensor:
        batch = x.shape[0]
        dtype = getattr(unet, "dtype", x.dtype)
        level = sigma.to(x.device, torch.float32).reshape(-1, 1, 1, 1)
        noisy = x.float() / (level.square() + 1).sqrt()
        latents = cond.image_latents.expand(batch, -1, -1, -1)
        output = unet(
            torch.cat([noisy, latents.float()], dim=1).to(dtype),
            schedule.sigma_to_t(sigma).to(x.device).expand(batch),
            encoder_hidden_states=cond.text.tokens.expand(batch, -1, -1).to(dtype),
        )
        answer: Tensor = getattr(output, "sample", output).float()
        if kind == "residual":
            base, scale = precondition(
                x.float(), level, latents.float(), schedule.config.condition_deviation
            )
            return base + scale * answer
        return to_x0(answer, x.float(), level, kind)

    return denoise


def precondition(
    x: Tensor, sigma: Tensor, image: Tensor, deviation: float
) -> tuple[Tensor, Tensor]:
    """The best guess of x0 without a network, and its deviation: x̂0 = guess + deviation · F.

    Two witnesses speak of x0: the noisy latents, wrong by σ, and the latents of the degraded photo,
    wrong by about s. Weighed by their variances, as two Gaussian measurements are, the guess is
    (s² x + σ² c) / (s² + σ²) and its deviation s σ / sqrt(s² + σ²). With s = 1 and c = 0 this is
    the preconditioning of arXiv:2206.00364 (Table 1, σ_data = 1), which a photo left out gets.

    Args:
        x: noisy latents (B, C, h, w).
        sigma: (B, 1, 1, 1) or (1, 1, 1, 1).
        image: latents of the degraded photo, the same shape; zeros where they are left out.
        deviation: s.

    Returns:
        The guess (B, C, h, w), and its deviation (B, 1, 1, 1).
    """
    absent = image.abs().amax((1, 2, 3), keepdim=True) == 0
    spread = torch.where(absent, 1.0, deviation)
    total = spread.square() + sigma.square()
    near = spread.square() / total
    return near * x + (1 - near) * image, spread * sigma / total.sqrt()


def to_x0(output: Tensor, x: Tensor, sigma: Tensor, prediction: Prediction) -> Tensor:
    """What a network's output says about x0.

    Args:
        output: the prediction (B, C, h, w).
        x: noisy latents x0 + σ·ε (B, C, h, w), not divided.
        sigma: (B, 1, 1, 1).
        prediction: what ``output`` is.
    """
    if prediction == "epsilon":
        return x - sigma * output
    if prediction == "v_prediction":
        variance = sigma.square() + 1
        return x / variance - output * sigma / variance.sqrt()
    return output


def training_target(x0: Tensor, noise: Tensor, sigma: Tensor, prediction: Prediction) -> Tensor:
    """What a network should answer for x = x0 + σ·noise: the inverse of `to_x0`.

    Args:
        x0: clean latents (B, C, h, w).
        noise: standard normal, the same shape.
        sigma: (B,).
        prediction: ε → noise; v → (noise − σ·x0) / sqrt(σ² + 1); sample → x0.
    """
    if prediction == "epsilon":
        return noise
    if prediction == "v_prediction":
        level = sigma.reshape(-1, 1, 1, 1)
        return (noise - level * x0) / (level.square() + 1).sqrt()
    return x0
