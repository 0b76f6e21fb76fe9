"""The figures between raw scores and decisions: temperature, presence scaling, threshold.

Apart from the network, because they are chosen after training, on photos that the training never
saw.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import Tensor

from autodir.errors import CheckpointError

Figure = TypeVar("Figure", float, Tensor)


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Figures chosen on held-out photos after training (training/calibration.py).

    Attributes:
        temperature: divides the logits before the softmax.
        clean_threshold: a degradation counts as found from this presence on, where it has no
            threshold of its own; a photo where none is found is clean.
        thresholds: those of single degradations, by key.
        presence_scale, presence_shift: Platt scaling of each degradation's presence logit, by key.
    """

    temperature: float = 1.0
    clean_threshold: float = 0.5
    thresholds: Mapping[str, float] | None = None
    presence_scale: Mapping[str, float] | None = None
    presence_shift: Mapping[str, float] | None = None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Calibration:
        """Read what `dataclasses.asdict` wrote; other keys (data, intervals) are for people.

        Raises:
            CheckpointError: a figure is no number, or out of range.
        """
        try:
            found = cls(**{key: values[key] for key in cls.__dataclass_fields__ if key in values})
            tables = tuple(
                table or {}
                for table in (found.thresholds, found.presence_scale, found.presence_shift)
            )
            figures = [found.clean_threshold, *(v for table in tables for v in table.values())]
            sound = found.temperature > 0 and all(math.isfinite(figure) for figure in figures)
        except (TypeError, AttributeError) as error:
            raise CheckpointError(f"malformed calibration: {error}") from error
        if not sound:
            raise CheckpointError(f"malformed calibration: {found}")
        return found

    def threshold(self, key: str) -> float:
        """The presence from which on a degradation counts as found."""
        return (self.thresholds or {}).get(key, self.clean_threshold)

    def presence(self, key: str, logit: float) -> float:
        """The calibrated probability that a degradation is present, from its raw logit."""
        return 1 / (1 + math.exp(-max(-60.0, min(60.0, self.logit(key, logit)))))

    def logit(self, key: str, raw: Figure) -> Figure:
        """The raw logit, a number or a tensor of any shape, with the scaling of its degradation."""
        scale = (self.presence_scale or {}).get(key, 1.0)
        shift = (self.presence_shift or {}).get(key, 0.0)
        return scale * raw + shift
