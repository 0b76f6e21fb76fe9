"""Networks that serve one degradation each, and the gate that asks for them.

Apart from the networks, because experts of pixels and experts of light are asked for alike.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from autodir.errors import ContractError

Kind = TypeVar("Kind", bound=nn.Module)

LEAST_SHARE = 0.02
"""An expert that an instruction asks for by less than this is not computed at all."""
_SHUT = -8.0


class Ensemble(nn.Module, ABC):
    """Small networks from the statistics of a whole photo to figures about it; their mean counts.

    Args:
        statistics: how many figures of a photo are read.
        inputs, outputs: of each network.
        hidden: width of both hidden layers.
        members: how many networks.
        dropout: share of the hidden figures left out in training.
    """

    center: Tensor
    spread: Tensor

    def __init__(
        self,
        statistics: int,
        *,
        inputs: int,
        outputs: int,
        hidden: int,
        members: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros(statistics))
        self.register_buffer("spread", torch.ones(statistics))
        self.members = nn.ModuleList(
            nn.Sequential(
                nn.Linear(inputs, hidden), nn.GELU(), nn.Dropout(dropout),
                nn.Linear(hidden, hidden), nn.GELU(), nn.Dropout(dropout),
                nn.Linear(hidden, outputs),
            )
            for _ in range(members)
        )  # fmt: skip
        for member in self.members:
            assert isinstance(member, nn.Sequential)
            for parameter in member[-1].parameters():
                nn.init.zeros_(parameter)

    def standardize(self, noted: Tensor) -> None:
        """Take center and spread from the statistics (N, F) of photos."""
        self.center.copy_(noted.mean(0))
        self.spread.copy_(noted.std(0).clamp_min(1e-3))

    def standard(self, noted: Tensor) -> Tensor:
        """Statistics (B, F) as the networks read them."""
        return ((noted - self.center.float()) / self.spread.float()).clamp(-5, 5)

    def forward(self, standard: Tensor) -> Tensor:
        """Standardized statistics (B, F) → the mean of what the networks say, float32."""
        return torch.stack([self.told_by(member, standard) for member in self.members]).mean(0)

    @abstractmethod
    def told_by(self, member: nn.Module, standard: Tensor) -> Tensor:
        """What one network says; an untrained one asks for no change."""


class Experts(nn.Module, ABC):
    """One network for each of some degradations; the instruction says how much of each is wanted.

    Args:
        embed_dim: width of the instruction vector.
        experts: the degradations that have one.
        shape: further arguments of the class, which its experts are built from.
    """

    def __init__(
        self, embed_dim: int, experts: Sequence[str], shape: Mapping[str, object] | None = None
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = {
            "embed_dim": embed_dim, "experts": list(experts), **(shape or {}),
        }  # fmt: skip
        self.embed_dim = embed_dim
        self.gate = nn.Linear(embed_dim, len(experts))
        nn.init.zeros_(self.gate.weight)
        nn.init.constant_(self.gate.bias, _SHUT)
        self.experts = nn.ModuleDict({key: self.fresh(key) for key in experts})

    @abstractmethod
    def fresh(self, key: str) -> nn.Module:
        """An expert of fresh weights for a degradation, which changes nothing."""

    def add_expert(self, key: str) -> nn.Module:
        """The expert of a degradation; a fresh one, not asked for yet, where it has none."""
        known = list(self.experts)
        if key not in known:
            old = self.gate
            self.experts[key] = self.fresh(key).to(old.weight)
            self.gate = nn.Linear(self.embed_dim, len(known) + 1).to(old.weight)
            with torch.no_grad():
                self.gate.weight.zero_()[: len(known)] = old.weight
                self.gate.bias.fill_(_SHUT)[: len(known)] = old.bias
            self.config["experts"] = [*known, key]
        return self.experts[key]

    def renewed(self, key: str, seed: int) -> nn.Module:
        """The expert of a degradation with fresh weights of a seed; one more where it has none."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.add_expert(key)
            self.experts[key] = self.fresh(key).to(self.gate.weight)
        return self.experts[key]

    def shares(self, instruction: Tensor) -> Tensor:
        """How much of each expert instructions (B, embed_dim) ask for, (B, experts) in [0, 1].

        Raises:
            ContractError: the instruction is of another width.
        """
        if instruction.shape[-1] != self.embed_dim:
            raise ContractError(f"these experts need an instruction (B, {self.embed_dim})")
        return torch.sigmoid(self.gate(instruction.to(self.gate.weight.dtype)).float())

    def asked(self, instruction: Tensor) -> Iterator[tuple[nn.Module, Tensor]]:
        """The experts that some of the instructions ask for, with the shares (B,) of each."""
        shares = self.shares(instruction)
        for index, expert in enumerate(self.experts.values()):
            share = shares[:, index]
            if float(share.detach().max()) >= LEAST_SHARE:
                yield expert, share

    def asked_of(self, kind: type[Kind], instruction: Tensor) -> list[tuple[Kind, Tensor]]:
        """The same, those of one class alone."""
        return [(one, share) for one, share in self.asked(instruction) if isinstance(one, kind)]
