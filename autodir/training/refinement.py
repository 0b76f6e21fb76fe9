"""The refinement stage: each expert learns what the frozen NAFNet leaves over of its degradation.

Apart from the correction stage: everything before the experts is frozen, so that one sampled and
corrected crop serves many steps, and no expert sees what is another's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autodir.correction.experts import Experts
from autodir.correction.scm import StructureCorrector
from autodir.correction.sharpening import Sharpening
from autodir.correction.spectrum import SIDE
from autodir.diffusion.model import LatentDiffusion
from autodir.errors import ContractError
from autodir.records import TextEmbedding
from autodir.training.batches import Batches, Drawn
from autodir.training.correction import restored_of
from autodir.training.data import SCALE
from autodir.training.instructions import Instructions
from autodir.training.loop import LoopOptions, fit
from autodir.training.losses import decibels_gained, levelled, relative_error
from autodir.training.replay import Replay
from autodir.training.samples import save_sheet
from autodir.training.weather import grayed, weathered

CROP = 128
"""Side in pixels of the crops that the frozen parts work on."""
WINDOW, WINDOWS = 72, {"rain": 96}
"""Side in pixels of the windows of them that a step sees; where streaks lie over each other the
light between them is told by what is farther away."""
BATCH = 16
LEARNING_RATE = 1.2e-3
SAMPLED = 0.85
"""Share of the batches with sampled images, where rounds draw samples; in the others the degraded
photo takes their place."""
REUSED = 10
"""Steps for each new batch: a step sees a third of a crop."""
RARER = 3
"""So many times fewer new batches where a kernel is looked for in each photo."""
FLOOR = 1e-4
"""Squared error that is good enough (40 dB): weak noise and compression are to be repaired too."""
LEVELLED = frozenset({"underexposure"})
"""Where the light of the target is anybody's guess: those experts are told to keep theirs."""
WEATHERED = {"rain": 0.5}
"""Share of the batches with weak noise and files: a shower is photographed from afar and shown on
the web, and its streaks are as fine as what a file leaves out."""
SCALES = {"low_resolution": (0.25, 1.0)}
"""How much photos are shrunk before the crop: small pictures show whole scenes, finer than most."""
ROUTED = 4096
"""Instructions that the gate is fitted on."""


def train_refinement(  # noqa: PLR0913 - the recipe in full
    corrector: StructureCorrector,
    diffusion: LatentDiffusion | None,
    batches: Batches,
    instructions: Instructions,
    options: LoopOptions,
    run_dir: Path,
    *,
    experts: Sequence[str] = (),
    batch: int = BATCH,
    crop: int | None = None,
    reuse: int = REUSED,
) -> StructureCorrector:
    """Train the experts of a corrector one after the other, each for its share of the budget.

    Args:
        corrector: the SCM with a refinement; its network stays as it is.
        diffusion: frozen; sampled with its default steps. None trains behind the correction alone.
        batches: source of degraded crops and targets; each expert sees its degradation alone.
        instructions: source of the text embeddings.
        options: schedule and budget of all of them together.
        run_dir: logs, samples and resumable state of each, in ``<run_dir>-<degradation>``.
        experts: the degradations whose experts are trained, fresh ones where there are none yet;
            all that the corrector has by default.
        batch: windows in a step, and crops in a new batch.
        crop: side of the crops in pixels; `CROP` by default.
        reuse: steps for each new batch.

    Returns:
        The corrector with averaged experts and a gate that knows them.

    Raises:
        ContractError: the corrector has no refinement.
    """
    refinement = corrector.refinement
    if refinement is None:
        raise ContractError("this corrector has no refinement to train")
    for key, own, folder in turns(refinement, experts, options, run_dir):
        _train_expert(
            key, corrector, diffusion, batches.alone(key), instructions, own, folder,
            (batch, crop or CROP, reuse),
        )  # fmt: skip
    route(refinement, instructions, options.seed)
    return corrector


def _train_expert(
    key: str,
    corrector: StructureCorrector,
    diffusion: LatentDiffusion | None,
    batches: Batches,
    instructions: Instructions,
    options: LoopOptions,
    run_dir: Path,
    recipe: tuple[int, int, int],
) -> None:
    """Train one expert in place at w = 1 and full share, loss in decibels of each image."""
    assert corrector.refinement is not None
    expert = corrector.refinement.add_expert(key)
    batch, side, reuse = recipe
    sharpening = corrector.sharpening
    if sharpening is not None and key not in sharpening.experts:
        sharpening = None
    if sharpening is not None and reuse > 1:
        reuse *= RARER
    window = min(WINDOWS.get(key, WINDOW), side)
    sampled = SAMPLED if instructions.taxonomy.get(key).sampled else 0.0
    sources = batches.with_blind()

    @torch.no_grad()
    def make(generator: torch.Generator, progress: float) -> list[Tensor]:
        source = sources[int(torch.randint(len(sources), (), generator=generator))]
        drawn, degraded, clear, told = _drawn(
            sharpening, source, instructions, generator, batch, side, WEATHERED.get(key, 0.0),
            SCALES.get(key, SCALE),
        )  # fmt: skip
        restored = restored_of(diffusion, drawn, told, generator, sampled)
        with corrector.unrefined():
            corrected = restored + corrector(degraded, restored, told.pooled)
        target = levelled(drawn.target, corrected) if key in LEVELLED else drawn.target
        return [clear, restored, corrected, target]

    replay = Replay(make, every=reuse, batch=batch)

    def loss(
        network: nn.Module, generator: torch.Generator, progress: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        images = replay.draw(generator, progress)
        top, left = torch.randint(side - window + 1, (2,), generator=generator).tolist()
        degraded, restored, corrected, target = (
            image[..., top : top + window, left : left + window] for image in images
        )
        result = corrected + network(degraded, restored, corrected)
        with torch.no_grad():
            gains = {
                name: decibels_gained(before, result, target).mean()
                for name, before in (("gain_db", degraded), ("beyond_db", corrected))
            }
        return relative_error(result, target, FLOOR).mean(), gains

    examples = make(torch.Generator().manual_seed(1), 1.0)

    def sample(network: nn.Module, path: Path) -> None:
        degraded, restored, corrected, target = (part.float() for part in examples)
        save_sheet(
            [degraded, corrected, corrected + network(degraded, restored, corrected), target], path
        )

    fit(expert, loss, options, run_dir, sample)


def _drawn(
    sharpening: Sharpening | None,
    source: Batches,
    instructions: Instructions,
    generator: torch.Generator,
    batch: int,
    side: int,
    files: float,
    scale: tuple[float, float],
) -> tuple[Drawn, Tensor, Tensor, TextEmbedding]:
    """A batch, its photos as the network and as the expert sees them, and the instructions.

    Where there is a sharpening for them the photos are drawn larger, since a spectrum needs room,
    and with the little noise that sharpening raises; ``files`` is the share of other batches that
    has it; ``scale`` is how much photos are shrunk first.
    """
    room = side if sharpening is None else max(side, SIDE)
    whole = source.draw(batch, room, generator, scale=scale)
    degraded, target = grayed(whole.degraded, whole.target, generator)
    whole = replace(whole, degraded=degraded, target=target)
    told = instructions.draw(whole.label, generator)
    if sharpening is None:
        if files and float(torch.rand((), generator=generator)) < files:
            whole = replace(whole, degraded=weathered(whole.degraded, generator))
        return whole, whole.degraded, whole.degraded, told
    seen = weathered(whole.degraded, generator)
    first = (room - side) // 2
    inside = (..., slice(first, first + side), slice(first, first + side))
    drawn = replace(whole, degraded=seen[inside], target=whole.target[inside])
    sharper = sharpening.sharpened(seen, told.pooled)
    clear = sharpening.deconvolved(seen, sharper, told.pooled)
    # Copies, since what inference mode made cannot be learnt from.
    return drawn, sharper[inside].clone(), clear[inside].clone(), told


def turns(
    experts: Experts, chosen: Sequence[str], options: LoopOptions, run_dir: Path
) -> Iterator[tuple[str, LoopOptions, Path]]:
    """The experts to be trained one after the other.

    Args:
        experts: all that there are.
        chosen: those that are trained; all of them where it is empty.
        options: of all turns together.
        run_dir: of the stage.

    Yields:
        A degradation, the options with its equal part of the budget, and ``<run_dir>-<key>``.
    """
    keys = tuple(chosen) or tuple(experts.experts)
    own = replace(options, budget=options.budget / len(keys))
    for key in keys:
        yield key, own, run_dir.with_name(f"{run_dir.name}-{key}")


def route(experts: Experts, instructions: Instructions, seed: int) -> float:
    """Fit the gate: logistic regression from an instruction to the degradation that it means.

    Args:
        experts: their gate is changed, nothing else.
        instructions: prompts, mixtures and free phrases are drawn from it.
        seed: of the draw.

    Returns:
        The share of the gate's answers, rounded, that are right on what it was fitted on.
    """
    generator = torch.Generator().manual_seed(seed)
    keys = instructions.taxonomy.keys
    labels = torch.randint(len(keys), (ROUTED,), generator=generator)
    with torch.no_grad():
        parts = [instructions.draw(part, generator).pooled for part in labels.split(256)]
    told = torch.cat(parts).to(experts.gate.weight)
    wanted = torch.tensor([[float(keys[i] == key) for key in experts.experts] for i in labels])
    wanted = wanted.to(told)
    optimizer = torch.optim.Adam(experts.gate.parameters(), lr=0.1)
    experts.gate.requires_grad_(True)
    with torch.enable_grad():
        for _ in range(300):
            optimizer.zero_grad(set_to_none=True)
            F.binary_cross_entropy_with_logits(experts.gate(told), wanted).backward()
            optimizer.step()
    with torch.no_grad():
        right = (experts.shares(told) > 0.5) == (wanted > 0.5)
    return float(right.float().mean())
