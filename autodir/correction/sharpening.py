"""A blurred photo sharpened by one filter, told by its spectrum.

Apart from the convolutions, because blur is the same for a whole photo, and by which kernel no
neighborhood tells: here the spectrum of a photo says how much of each frequency, in each direction,
the result is to have (the linear filter of Wiener, 1949, its figures learnt).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from autodir.correction.deconvolution import deconvolved
from autodir.correction.experts import Ensemble, Experts
from autodir.correction.spectrum import (
    ANGLES,
    FIGURES,
    RADII,
    STATISTICS,
    kernel_of,
    statistics,
)
from autodir.imaging.convolution import convolve_in_strips

SHARPENED = ("blur",)
"""The degradations that have one by default: those that one filter nearly undoes."""
CONVINCED = 0.5
"""Share of an expert that an instruction must ask for before a kernel is looked for."""
_OUTPUT = 0.5


class Sharpness(Ensemble):
    """From a photo's spectrum to how far each frequency is raised, (B, 96).

    A network is asked once for each direction, and sees the others from there: what is learnt of a
    motion along one direction holds for all.

    Args:
        hidden, members, dropout: see `Ensemble`.
    """

    def __init__(self, hidden: int, members: int, dropout: float) -> None:
        inputs = STATISTICS + ANGLES
        super().__init__(
            STATISTICS, inputs=inputs, outputs=len(RADII), hidden=hidden, members=members,
            dropout=dropout,
        )  # fmt: skip

    def told_by(self, member: nn.Module, standard: Tensor) -> Tensor:
        """By frequency, then direction; 0, what an untrained network says, leaves a photo."""
        weight = next(member.parameters())
        around = standard[:, : ANGLES * FIGURES].unflatten(1, (ANGLES, FIGURES))
        rest = standard[:, ANGLES * FIGURES :]
        seen = []
        for angle in range(ANGLES):
            # Scenes have more that is upright and level than aslant: which direction is told, too.
            which = torch.eye(ANGLES).to(standard)[angle].expand(len(standard), -1)
            seen.append(torch.cat([around.roll(-angle, 1).flatten(1), rest, which], dim=1))
        told: Tensor = member(torch.stack(seen, dim=1).to(weight.dtype))
        return _OUTPUT * told.float().transpose(1, 2).flatten(1)


class Sharpening(Experts):
    """The experts of sharpness, and the gate that says how much of each is asked for.

    Args:
        embed_dim: width of the instruction vector.
        experts: the degradations that have one.
        hidden, members, dropout: of each, see `Ensemble`.
    """

    def __init__(
        self,
        *,
        embed_dim: int,
        experts: Sequence[str] = SHARPENED,
        hidden: int = 256,
        members: int = 3,
        dropout: float = 0.2,
    ) -> None:
        shape = {"hidden": hidden, "members": members, "dropout": dropout}
        super().__init__(embed_dim, experts, shape)

    def fresh(self, key: str) -> Sharpness:
        """An expert of fresh weights, which changes nothing."""
        config = self.config
        return Sharpness(config["hidden"], config["members"], config["dropout"])

    @torch.inference_mode()
    def sharpened(self, photo: Tensor, instruction: Tensor, weight: float = 1.0) -> Tensor:
        """Sharpen photos, each by its own filter.

        Args:
            photo: (B, 3, H, W) in [0, 1].
            instruction: pooled text embedding (B, embed_dim).
            weight: of what is added.

        Returns:
            (B, 3, H, W) in [0, 1], float32; ``photo`` itself where nothing is asked for.

        Raises:
            ContractError: the instruction is of another width.
        """
        asked = self.asked_of(Sharpness, instruction)
        if not asked:
            return photo
        noted = statistics(photo)
        raised = torch.stack(
            [share[:, None] * expert(expert.standard(noted)) for expert, share in asked]
        ).sum(0)
        kernels = kernel_of(weight * raised)
        parts = [
            convolve_in_strips(one[None], kernel).clamp_(0, 1)
            for one, kernel in zip(photo.float(), kernels, strict=True)
        ]
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    @torch.inference_mode()
    def deconvolved(self, photo: Tensor, sharpened: Tensor, instruction: Tensor) -> Tensor:
        """Undo the blur of photos by the kernel that each of them is found to have.

        Args:
            photo: (B, 3, H, W) in [0, 1].
            sharpened: what `sharpened` made of it: the answer where no kernel is believed.
            instruction: pooled text embedding (B, embed_dim).

        Returns:
            (B, 3, H, W) in [0, 1]; ``sharpened`` itself where nothing is asked for.

        Raises:
            ContractError: the instruction is of another width.
        """
        asked = self.shares(instruction).amax(1) >= CONVINCED
        if not bool(asked.any()):
            return sharpened
        parts = [
            deconvolved(photo[index : index + 1], sharpened[index : index + 1])
            if asked[index % len(asked)] else sharpened[index : index + 1]
            for index in range(len(photo))
        ]  # fmt: skip
        return torch.cat(parts) if len(parts) > 1 else parts[0]
