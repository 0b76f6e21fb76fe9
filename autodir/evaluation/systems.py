"""The columns of a table: every way to answer a case, from the untouched input to the whole loop.

Apart so that a new column is one function and one line of `SYSTEMS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from autodir.config import RestoreOptions
from autodir.evaluation.baselines import restore_classically
from autodir.evaluation.datasets import Case
from autodir.records import Diagnosis, Image, Restoration


class Repairer(Protocol):
    """What a restorer must offer to be evaluated; `autodir.pipeline.Restorer` does."""

    @property
    def info(self) -> Mapping[str, Any]:
        """Name, hash and origin of the model."""
        ...

    def restore(self, source: Image, options: RestoreOptions, /) -> Restoration:
        """The whole loop."""
        ...

    def diagnose(self, source: Image, /) -> Diagnosis:
        """The first look alone."""
        ...

    def apply_parts(
        self,
        pixels: Tensor,
        degradation_key: str,
        /,
        *,
        diffusion: bool = True,
        correction: bool = True,
        structure_weight: float | None = None,
        seed: int = 0,
    ) -> Tensor:
        """One round against a given degradation, with parts switched off at will."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """A result (1, 3, H, W) in [0, 1], and the degradations that were treated, in order."""

    image: Tensor
    treated: tuple[str, ...] = ()


System = Callable[[Repairer, Case, int], Answer]


def _undoing(case: Case) -> tuple[str, ...]:
    """What happened to the picture, last first: the order in which it is undone."""
    return tuple(reversed(case.degradations or ()))


def _input(restorer: Repairer, case: Case, seed: int) -> Answer:
    return Answer(image=case.input)


def _classical(restorer: Repairer, case: Case, seed: int) -> Answer:
    image = case.input
    for key in _undoing(case):
        image = restore_classically(image, key)
    return Answer(image=image, treated=_undoing(case))


def _parts(*, diffusion: bool, correction: bool) -> System:
    def answer(restorer: Repairer, case: Case, seed: int) -> Answer:
        image = case.input
        for key in _undoing(case):
            image = restorer.apply_parts(
                image, key, diffusion=diffusion, correction=correction, seed=seed
            )
        return Answer(image=image, treated=_undoing(case))

    return answer


def _loop(*, guard: bool, oracle: bool, techniques: Mapping[str, Any] | None = None) -> System:
    def answer(restorer: Repairer, case: Case, seed: int) -> Answer:
        if oracle and not case.degradations:
            return Answer(image=case.input)
        only = _undoing(case) if oracle else ()
        options = RestoreOptions.from_mapping(
            {"guard": guard, "seed": seed, "only": only, **(techniques or {})}
        )
        restoration = restorer.restore(Image(pixels=case.input[0]), options)
        kept = (step for step in restoration.report.steps if step.verdict != "rolled back")
        treated = tuple(step.degradation for step in kept)
        return Answer(image=restoration.image.pixels[None], treated=treated)

    return answer


TECHNIQUES: Mapping[str, Mapping[str, Any]] = {
    "plain": {},
    "tiles": {"tile": 32, "tile_overlap": 16},
    "wavelet": {"color_fix": "wavelet"},
    "adain": {"color_fix": "adain"},
    "two_stage": {"two_stage": True},
    "region": {"guidance_region": 0.1},
    "from_photo": {"start": "photo"},
    "dreamclean_0": {"sampler": "dreamclean", "gamma": 0.0},
    "dreamclean": {"sampler": "dreamclean"},
    "fidelity": {"fidelity": 0.5},
}
"""The published techniques one by one: options of a repair among true labels, without the guard."""

SYSTEMS: dict[str, System] = {
    "input": _input,
    "classical": _classical,
    "diffusion": _parts(diffusion=True, correction=False),
    "correction": _parts(diffusion=False, correction=True),
    "both": _parts(diffusion=True, correction=True),
    "oracle": _loop(guard=True, oracle=True),
    "whole": _loop(guard=True, oracle=False),
    "whole_no_guard": _loop(guard=False, oracle=False),
    **{
        name: _loop(guard=False, oracle=True, techniques=values)
        for name, values in TECHNIQUES.items()
    },
}

TITLES: dict[str, str] = {
    "input": "input",
    "classical": "classical tool, true label",
    "diffusion": "diffusion alone, true label",
    "correction": "correction alone, true label",
    "both": "both parts, true label",
    "oracle": "whole, among true labels",
    "whole": "whole, own diagnosis",
    "whole_no_guard": "whole, own diagnosis, no guard",
    "plain": "no technique",
    "tiles": "--tile 32",
    "wavelet": "--color-fix wavelet",
    "adain": "--color-fix adain",
    "two_stage": "--two-stage",
    "region": "--guidance-region 0.1",
    "from_photo": "--start photo",
    "dreamclean_0": "dreamclean, γ 0",
    "dreamclean": "dreamclean, γ 0.05",
    "fidelity": "--fidelity 0.5",
}

MODEL_FREE = frozenset({"input", "classical"})
"""Columns that need no model."""
