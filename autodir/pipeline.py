"""The restore loop: diagnose, condition, sample, correct, judge, look again (AutoDIR, ECCV 2024).

Apart from its stages, so that the whole system can be read in one place, top to bottom.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from autodir import __version__
from autodir.checkpoint import Model, calibration_of, find_model, info, load_model
from autodir.config import PRECISIONS, RestoreOptions
from autodir.correction.scm import StructureCorrector
from autodir.diagnosis.biqa import BiqaDiagnoser
from autodir.diagnosis.guard import Guard
from autodir.diagnosis.manual import ListDiagnoser, PromptDiagnoser, SupportsDiagnose
from autodir.errors import ConfigError, DeviceError
from autodir.imaging.color import match_color
from autodir.imaging.io import from_any
from autodir.prompts import Degradation
from autodir.records import Diagnosis, Mixture, NoiseSource, Report, Restoration, Step, Verdict
from autodir.report import restoration_to_dict, to_json

Callback = Callable[[Any], object]
"""Sees each sampling step; returning False ends the sampling of that round."""


@dataclass(frozen=True, kw_only=True)
class PlannedStep:
    """A round that would be done: what `fix --dry-run` shows."""

    prompt: str | None
    degradation: str
    probability: float
    structure_weight: float


class RestorationReport(Report):
    """A report that writes itself as JSON."""

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, schema ``autodir.restoration/1``."""
        return restoration_to_dict(self)

    def to_json(self) -> str:
        """One line of JSON."""
        return to_json(self.to_dict())


class Restorer:
    """A model, ready to diagnose and restore photos.

    Args:
        model: all parts, in eval mode, on one device.
        provenance: name and hash of the model, for the reports.
    """

    def __init__(self, model: Model, provenance: Mapping[str, Any] | None = None) -> None:
        self.model, self.taxonomy = model, model.taxonomy
        self.diagnoser = BiqaDiagnoser(model.quality_model().eval(), calibration_of(model))
        self.diffusion = model.latent_diffusion()
        self.corrector: StructureCorrector = model.scm
        self.guard = Guard(self.diagnoser)
        self.info: dict[str, Any] = {
            "autodir": __version__,
            "torch": torch.__version__,
            **(provenance or {}),
        }

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path = "small",
        *,
        device: str = "auto",
        precision: str = "auto",
        threads: int | None = None,
    ) -> Restorer:
        """Load a model by name, or from a folder.

        Args:
            name_or_path: "small", or a model folder.
            device: auto, cpu, cuda, cuda:INDEX or mps.
            precision: auto, fp32, bf16 or fp16; auto is fp32 on a CPU and bf16 on a GPU.
            threads: CPU threads; all by default.

        Raises:
            CheckpointError: the model is missing or damaged.
            ConfigError: the precision is unknown, or not one of the device.
            DeviceError: the device is absent.
        """
        if threads is not None:
            torch.set_num_threads(threads)
        where = find_device(device)
        if precision not in PRECISIONS:
            raise ConfigError(f"unknown precision {precision!r}", f"use {', '.join(PRECISIONS)}")
        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}.get(
            precision, torch.float32 if where.type == "cpu" else torch.bfloat16
        )
        if where.type == "cpu" and dtype is torch.float16:
            raise ConfigError("fp16 is not supported on a CPU", "use --precision fp32 or bf16")
        about = info(find_model(name_or_path))
        model = load_model(name_or_path, where, dtype)
        return cls(model, {"model": about.name, "model_sha256": about.sha256})

    def restore(
        self,
        source: object,
        options: RestoreOptions | None = None,
        callback: Callback | None = None,
    ) -> Restoration:
        """Diagnose, repair, correct, judge, look again, until nothing is left to repair.

        Args:
            source: a path, a PIL image, an (H, W, 3) array, a tensor or a `Photo`.
            options: what to repair and how.
            callback: sees each sampling step; returning False ends the sampling of that round.

        Returns:
            The restored photo, of the size of the input times ``options.scale``, and the report.

        Raises:
            ImageError: the source is no image.
            PromptError: a prompt or a degradation is unknown.
        """
        options = options or RestoreOptions()
        started = time.perf_counter()
        photo = from_any(source).enlarged(options.scale)
        original = current = photo.pixels[None].to(self.diffusion.device)
        diagnoser, remaining = self._diagnoser(options), self.taxonomy
        noise, steps = NoiseSource(options.seed), list[Step]()
        rounds = len(options.prompt) or options.max_steps
        # 1 BIQA: views of the photo against the prompts.
        first = diagnosis = diagnoser.diagnose(current, remaining)
        while diagnosis.main is not None and len(steps) < rounds and options.strength > 0:
            begun = time.perf_counter()
            # 2 to 5 Latent diffusion, structural correction, color.
            candidate = self._repair(current, diagnosis, options, noise, callback)
            if not options.prompt:
                remaining = remaining.without(diagnosis.main)  # each is repaired once
            # 6 The guard keeps, blends or rolls back.
            verdict = self._judge(diagnosis, current, candidate, remaining, options)
            steps.append(_step(len(steps), diagnosis, verdict, time.perf_counter() - begun))
            current = verdict.image
            diagnosis = self._next(diagnoser, verdict, remaining, options)  # 7 look again
        if options.strength < 1:
            current = torch.lerp(original, current, options.strength)
        report = RestorationReport(
            clean=first.is_clean,
            steps=tuple(steps),
            stopped=_why(diagnosis, rounds, options),
            first=first,
            last=diagnosis,
            options=dataclasses.asdict(options),
            provenance=self.info,
            seconds=time.perf_counter() - started,
        )
        return Restoration(image=photo.with_pixels(current[0].float().cpu()), report=report)

    def diagnose(self, source: object) -> Diagnosis:
        """Say what is wrong with a photo, and change nothing."""
        pixels = from_any(source).pixels[None].to(self.diffusion.device)
        return self.diagnoser.diagnose(pixels, self.taxonomy)

    def plan(self, source: object, options: RestoreOptions | None = None) -> list[PlannedStep]:
        """The first round that `restore` would do, or one for each prompt; none is done."""
        options = options or RestoreOptions()
        pixels = from_any(source).enlarged(options.scale).pixels[None].to(self.diffusion.device)
        diagnoser, planned = self._diagnoser(options), list[PlannedStep]()
        for _ in range(len(options.prompt) or 1):
            diagnosis = diagnoser.diagnose(pixels, self.taxonomy)
            if diagnosis.main is not None:
                planned.append(PlannedStep(
                    prompt=diagnosis.prompt, degradation=diagnosis.main.key,
                    probability=diagnosis.main_probability,
                    structure_weight=_weight(diagnosis.main, options.structure_weight),
                ))  # fmt: skip
        return planned

    def apply_parts(
        self,
        pixels: Tensor,
        degradation: str,
        *,
        diffusion: bool = True,
        correction: bool = True,
        structure_weight: float | None = None,
        seed: int = 0,
    ) -> Tensor:
        """One round against a given degradation, without diagnosis, guard and loop: for ablations.

        Args:
            pixels: (1, 3, H, W) in [0, 1].
            degradation: its key.
            diffusion, correction: leave a part out; the correction alone sees the photo in place of
                the sample.
            structure_weight: w; the taxonomy's own by default.
            seed: of the sampling noise.
        """
        main = self.taxonomy.get(degradation)
        mixture = Mixture(phrases=(self.taxonomy.prompt(main.key),), weights=(1.0,))
        pixels = pixels.to(self.diffusion.device)
        restored = pixels
        if diffusion:
            restored = self.diffusion.sample(
                self.diffusion.condition(pixels, mixture), NoiseSource(seed)
            )
        if correction:
            text = self.diffusion.phrases.mixture(mixture)
            restored = self.corrector.correct(
                pixels, restored, text, _weight(main, structure_weight)
            )
        return restored

    def _repair(
        self, current: Tensor, diagnosis: Diagnosis, options: RestoreOptions, noise: NoiseSource,
        callback: Callback | None,
    ) -> Tensor:  # fmt: skip
        """Steps 2 to 5 of one round: (1, 3, H, W) → (1, 3, H, W)."""
        assert diagnosis.main is not None
        # 2 The text embedding, mixed by probability.
        conditioning = self.diffusion.condition(current, diagnosis.mixture)
        # 3 Latent diffusion.
        restored = self.diffusion.sample(
            conditioning,
            noise,
            sampler=options.sampler,
            steps=options.sampling_steps,
            guidance_text=options.guidance_text,
            guidance_image=options.guidance_image,
            tile=options.tile,
            callback=callback,
        )
        # 4 Structural correction: I_sd + w · R.
        weight = _weight(diagnosis.main, options.structure_weight)
        corrected = self.corrector.correct(current, restored, conditioning.text, weight)
        # 5 Color.
        return match_color(corrected, current, options.color_fix or diagnosis.main.color_fix)

    def _judge(
        self,
        diagnosis: Diagnosis,
        current: Tensor,
        candidate: Tensor,
        remaining: Any,
        options: RestoreOptions,
    ) -> Verdict:
        if not options.guard or options.prompt:  # a user's own words are not overruled
            return Verdict(kind="kept", why="not judged", image=candidate)
        return self.guard.judge(diagnosis, current, candidate, remaining)

    def _next(
        self, diagnoser: SupportsDiagnose, verdict: Verdict, remaining: Any, options: RestoreOptions
    ) -> Diagnosis:
        """The next diagnosis; the guard has made it already where the user restricts nothing."""
        restricted = options.prompt or options.only or options.skip or options.scale > 1
        if verdict.after is not None and not restricted:
            return verdict.after
        return diagnoser.diagnose(verdict.image, remaining)

    def _diagnoser(self, options: RestoreOptions) -> SupportsDiagnose:
        if options.prompt:
            return PromptDiagnoser(options.prompt, self.model.clip, self.taxonomy)
        only = options.only or (("low_resolution",) if options.scale > 1 else ())
        return ListDiagnoser(self.diagnoser, self.taxonomy, only, options.skip)


def find_device(name: str) -> torch.device:
    """The torch device of a name; auto takes a CUDA GPU where there is one.

    Raises:
        DeviceError: the device is absent or unknown.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(
            f"unknown device {name!r}", "use auto, cpu, cuda, cuda:INDEX or mps"
        ) from error
    present = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not present.get(device.type, False):
        raise DeviceError(f"there is no device {name!r} here", "use --device cpu")
    return device


def _weight(degradation: Degradation, chosen: float | None) -> float:
    return degradation.structure_weight if chosen is None else chosen


def _step(index: int, diagnosis: Diagnosis, verdict: Verdict, seconds: float) -> Step:
    return Step(
        index=index,
        degradation=diagnosis.main.key if diagnosis.main else "",
        probability=diagnosis.main_probability,
        prompt=diagnosis.prompt,
        verdict=verdict.kind,
        why=verdict.why,
        seconds=seconds,
        measures=verdict.measures,
    )


def _why(diagnosis: Diagnosis, rounds: int, options: RestoreOptions) -> str:
    if options.strength == 0:
        return "strength is 0"
    if diagnosis.main is None:
        return "all prompts done" if options.prompt else "no degradation left"
    return "all prompts done" if options.prompt else f"{rounds} rounds done"
