"""Which degradations a training sample gets, in which order, and what its target is.

Apart from the operators because the same operators serve training, tests and the command line.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from autodir.errors import ConfigError, ContractError, PromptError
from autodir.synthesis.draws import Fixed, Parameters
from autodir.synthesis.operators import OPERATORS, quantize_8bit
from autodir.synthesis.second_order import degrade_second_order

# Scene, lens, exposure, sensor, file: the order in which a photo meets them.
PHYSICAL_ORDER: tuple[str, ...] = (
    "rain",
    "haze",
    "raindrop",
    "blur",
    "underexposure",
    "noise",
    "low_resolution",
    "compression",
)

# The published second-order chains count as one degradation: ``recipe`` among its parameters.
SECOND_ORDER_KEY = "low_resolution"

# An earlier degradation outranks the last one where it is stronger by this much severity.
_OUTRANKS = 0.35
# Degradations that come with others are not at their worst.
_COMPOSITE_SEVERITY = 0.85
# Of the samples with several degradations, the share with three.
_TRIPLES = 0.3
_RARE_PAIR = frozenset({"haze", "underexposure"})


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One operator applied, with all that is needed to apply it again.

    Attributes:
        key: the degradation.
        image: (B, 3, H, W) after it.
        severity: (B,) in [0, 1].
        seed: of the operator's own generator.
        parameters: what it drew, per sample.
        fixed: parameters that the caller set.
    """

    key: str
    image: Tensor
    severity: Tensor
    seed: int
    parameters: Parameters
    fixed: Fixed | None = None


@dataclass(frozen=True, kw_only=True)
class Degraded:
    """A degraded photo and the photo that one repair should give.

    Attributes:
        image: (B, 3, H, W) in [0, 1].
        target: the same photo without ``main``.
        keys: degradations in the order applied; empty for a clean photo.
        main: the one to repair first, or None.
        severities: severity (B,) by key.
        parameters: drawn parameters per sample, by key.
        seeds: seed by key.
    """

    image: Tensor
    target: Tensor
    keys: tuple[str, ...]
    main: str | None
    severities: Mapping[str, Tensor]
    parameters: Mapping[str, Parameters]
    seeds: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Training samples.

    Attributes:
        degraded: (B, 3, H, W) in [0, 1].
        target: (B, 3, H, W): the photo without its main degradation, the others kept.
        label: (B,) place of the main degradation in the caller's keys, K for a clean photo.
        presence: (B, K) 1 where a degradation is present, in the order of the caller's keys.
        severity: (B,) severity of the main degradation, 0 for a clean photo.
        severities: (B, K) severity of each, 0 where absent.
        parameters: per sample, by key, in the order applied.
    """

    degraded: Tensor
    target: Tensor
    label: Tensor
    presence: Tensor
    severity: Tensor
    severities: Tensor
    parameters: list[dict[str, dict[str, object]]]


def apply(
    key: str,
    clean: Tensor,
    severity: Tensor | float,
    generator: torch.Generator,
    fixed: Fixed | None = None,
) -> tuple[Tensor, Parameters]:
    """Apply one degradation to (B, 3, H, W) in [0, 1].

    Args:
        key: a key of `OPERATORS`.
        clean: sRGB-encoded images.
        severity: (B,) or one number, in [0, 1].
        generator: source of all randomness, on the CPU.
        fixed: parameters to set instead of drawing them.

    Raises:
        PromptError: no such degradation.
        ContractError: ``clean`` is not (B, 3, H, W), or there is not one severity per image.
        ConfigError: ``fixed`` names an unknown parameter or a value out of range.
    """
    check_key(key)
    if clean.ndim != 4 or clean.shape[1] != 3:
        raise ContractError(f"clean must be (B, 3, H, W), got {tuple(clean.shape)}")
    if not isinstance(severity, Tensor):
        severity = torch.full((len(clean),), float(severity))
    if severity.shape != clean.shape[:1]:
        raise ContractError(f"severity must be ({len(clean)},), got {tuple(severity.shape)}")
    if key == SECOND_ORDER_KEY and fixed and "recipe" in fixed:
        if len(fixed) > 1:
            raise ConfigError("a recipe draws everything itself", "give recipe=NAME alone")
        return degrade_second_order(clean, generator, str(fixed["recipe"]))
    return OPERATORS[key](clean, severity, generator, fixed)


def compose(
    clean: Tensor, keys: Sequence[str], severities: Tensor, generator: torch.Generator
) -> list[Stage]:
    """Apply degradations one after another, each under a seed of its own.

    Args:
        clean: (B, 3, H, W) in [0, 1].
        keys: in the order to apply.
        severities: (B, len(keys)) in [0, 1].
        generator: gives the seeds.

    Returns:
        One stage per key; the last holds the result.
    """
    stages: list[Stage] = []
    image = clean
    for index, key in enumerate(keys):
        seed = _seed(generator)
        severity = severities[:, index]
        image, parameters = apply(key, image, severity, _seeded(seed))
        stages.append(
            Stage(key=key, image=image, severity=severity, seed=seed, parameters=parameters)
        )
    return stages


def without(clean: Tensor, stages: Sequence[Stage], key: str) -> Tensor:
    """Run ``stages`` again from ``clean`` but leave ``key`` out; all others draw what they drew."""
    image = clean
    for stage in stages:
        if stage.key != key:
            image, _ = apply(stage.key, image, stage.severity, _seeded(stage.seed), stage.fixed)
    return image


def choose_main(keys: Sequence[str], severities: Sequence[float]) -> str:
    """The degradation to repair first: the last applied, unless an earlier one is much stronger."""
    main, strongest = keys[-1], severities[-1] + _OUTRANKS
    for key, severity in zip(keys[:-1], severities[:-1], strict=True):
        if severity > strongest:
            main, strongest = key, severity
    return main


def draw_degraded(
    clean: Tensor, keys: Sequence[str], severities: Sequence[float], generator: torch.Generator
) -> Degraded:
    """Degrade every image of the batch by one chain; the target lacks its main degradation."""
    strengths = torch.tensor([list(severities)] * len(clean)).view(len(clean), len(keys))
    stages = compose(clean, keys, strengths, generator)
    main = choose_main(keys, severities) if keys else None
    return Degraded(
        image=stages[-1].image if stages else clean,
        target=without(clean, stages, main) if main else clean,
        keys=tuple(keys),
        main=main,
        severities={stage.key: stage.severity for stage in stages},
        parameters={stage.key: stage.parameters for stage in stages},
        seeds={stage.key: stage.seed for stage in stages},
    )


def draw_batch(
    clean: Tensor,
    generator: torch.Generator,
    *,
    keys: Sequence[str] = tuple(OPERATORS),
    share: tuple[float, float, float] = (0.6, 0.3, 0.1),
    least: float = 0.0,
    emphasis: Mapping[str, float] | None = None,
    quantize: bool = True,
) -> Batch:
    """Draw a training batch.

    Args:
        clean: (B, 3, H, W) in [0, 1], sRGB-encoded.
        generator: source of all randomness, on the CPU.
        keys: K degradations to draw from, in the order in which labels count them.
        share: fractions of samples with one degradation, with two or three, and with none.
        least: smallest severity drawn.
        emphasis: factor on how often a degradation comes alone, 1 where not named.
        quantize: round the degraded images to 8 bits, as files are.

    Returns:
        Samples in the order of ``clean``, on its device.

    Raises:
        PromptError: a key has no operator.
    """
    for key in keys:
        check_key(key)
    order = [key for key in PHYSICAL_ORDER if key in keys]
    count = len(clean)
    present = torch.zeros(count, len(order), dtype=torch.bool)
    weights = _single_weights(len(order), share)
    weights = weights * torch.tensor([(emphasis or {}).get(key, 1.0) for key in order])
    for index, size in enumerate(_sizes(count, len(order), share, generator)):
        present[index, _subset(order, size, weights, generator)] = True
    drawn = torch.rand(count, len(order), generator=generator)
    severities = (least + (1 - least) * drawn) * present
    severities[present.sum(1) > 1] *= _COMPOSITE_SEVERITY
    main = torch.full((count,), -1, dtype=torch.long)
    for index in range(count):
        chosen = present[index].nonzero().flatten().tolist()
        if chosen:
            names = [order[i] for i in chosen]
            main[index] = order.index(choose_main(names, severities[index, chosen].tolist()))
    degraded, target, parameters = _run(clean, order, present, severities, main, generator)
    if quantize:
        degraded = quantize_8bit(degraded)
    untouched = (main < 0).to(clean.device)
    target = torch.where(untouched.view(-1, 1, 1, 1), degraded, target)
    places = [order.index(key) for key in keys]
    labels = torch.tensor([list(keys).index(key) for key in order] + [len(keys)])
    rank = main.clamp_min(0)[:, None]
    severity = severities.gather(1, rank)[:, 0] * (main >= 0) if order else torch.zeros(count)
    return Batch(
        degraded=degraded,
        target=target,
        label=labels[main].to(clean.device),
        presence=present[:, places].float().to(clean.device),
        severity=severity.to(clean.device),
        severities=severities[:, places].to(clean.device),
        parameters=parameters,
    )


def _run(
    clean: Tensor,
    order: Sequence[str],
    present: Tensor,
    severities: Tensor,
    main: Tensor,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor, list[dict[str, dict[str, object]]]]:
    """Degrade along ``order``, each operator once for all samples that have it; targets beside.

    A target follows its sample until the main degradation, misses that one, and meets all later
    ones under the same seed and among the same neighbors, so that their draws are the same.
    """
    degraded, target = clean.clone(), clean.clone()
    parameters: list[dict[str, dict[str, object]]] = [{} for _ in range(len(clean))]
    for place, key in enumerate(order):
        seed = _seed(generator)
        rows = present[:, place].nonzero().flatten()
        if not len(rows):
            continue
        there = rows.to(clean.device)
        severity = severities[rows, place]
        after, drawn = apply(key, degraded[there], severity, _seeded(seed))
        for row, values in zip(rows.tolist(), drawn, strict=True):
            parameters[row][key] = values
        parted = (main[rows] < place) & (main[rows] >= 0)
        kept = target[there]
        if bool(parted.any()):
            apart, _ = apply(key, kept, severity, _seeded(seed))
        else:
            apart = kept
        ahead = (main[rows] > place).to(clean.device).view(-1, 1, 1, 1)
        missed = (main[rows] == place).to(clean.device).view(-1, 1, 1, 1)
        target[there] = torch.where(missed, kept, torch.where(ahead, after, apart))
        degraded[there] = after
    return degraded, target, parameters


def _sizes(
    count: int, available: int, share: tuple[float, float, float], generator: torch.Generator
) -> list[int]:
    """How many degradations each sample gets."""
    if min(share) < 0 or sum(share) <= 0:
        raise ContractError(f"share must hold non-negative weights, got {share}")
    group = torch.multinomial(torch.tensor(share).float(), max(count, 1), True, generator=generator)
    more = 2 + (torch.rand(max(count, 1), generator=generator) < _TRIPLES).long()
    sizes = torch.stack([torch.ones_like(more), more, torch.zeros_like(more)])
    picked = sizes.gather(0, group[None])[0].clamp_max(available)
    return [int(size) for size in picked[:count]]


def _single_weights(count: int, share: tuple[float, float, float]) -> Tensor:
    """(count,) weights of the places in the order, for samples with one degradation.

    The last of several is mostly the main one, so late operators lead many composites; singles make
    up for it, and each degradation is the main one about equally often.
    """
    pair = [math.comb(place, 1) / max(1, math.comb(count, 2)) for place in range(count)]
    triple = [math.comb(place, 2) / max(1, math.comb(count, 3)) for place in range(count)]
    last = (1 - _TRIPLES) * torch.tensor(pair) + _TRIPLES * torch.tensor(triple)
    return ((share[0] + share[1]) / max(1, count) - share[1] * last).clamp_min(0.01)


def _subset(
    order: Sequence[str], size: int, weights: Tensor, generator: torch.Generator
) -> list[int]:
    """``size`` places in ``order``; haze in the dark is drawn again once, which keeps it rare."""
    chosen: list[int] = []
    if size == 1:
        return [int(torch.multinomial(weights, 1, generator=generator).item())]
    for _ in range(2):
        chosen = torch.randperm(len(order), generator=generator)[:size].tolist()
        if not _RARE_PAIR.issubset(order[index] for index in chosen):
            break
    return chosen


def check_key(key: str) -> None:
    """Raise `PromptError`, with the nearest match, unless ``key`` has an operator."""
    if key not in OPERATORS:
        near = difflib.get_close_matches(key, OPERATORS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"one of: {', '.join(OPERATORS)}"
        raise PromptError(f"no degradation {key!r}", hint=hint)


def _seed(generator: torch.Generator) -> int:
    return int(torch.randint(0, 2**62, (1,), generator=generator).item())


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
