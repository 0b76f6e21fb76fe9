"""The restore loop: diagnose, condition, sample, correct, judge, look again (AutoDIR, ECCV 2024).

Apart from its stages, so that the whole system can be read in one place, top to bottom.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from autodir import __version__
from autodir.attempt import suspicions_of
from autodir.checkpoint import Model, calibration_of, info, load_model
from autodir.config import PRECISIONS, RestoreOptions
from autodir.correction.recolor import keep_colors
from autodir.correction.scm import StructureCorrector
from autodir.correction.stage1 import Stage1, load_stage1
from autodir.diagnosis.biqa import BiqaDiagnoser
from autodir.diagnosis.guard import Guard, left_after, not_ruled_out
from autodir.diagnosis.manual import ListDiagnoser, PromptDiagnoser, SupportsDiagnose
from autodir.diagnosis.maps import PresenceMap, limit, presence_maps
from autodir.diagnosis.severity import estimate
from autodir.diffusion.model import LatentDiffusion
from autodir.diffusion.settings import DiffusionConfig
from autodir.errors import ConfigError, DeviceError
from autodir.hub import is_hub_name
from autodir.imaging.io import from_any
from autodir.placement import compile_parts, keep_one, pixel_major
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
        offload: a device that parts are on only while they work; the model lies on the CPU.
    """

    def __init__(
        self,
        model: Model,
        provenance: Mapping[str, Any] | None = None,
        offload: torch.device | None = None,
    ) -> None:
        self.model, self.taxonomy = model, model.taxonomy
        self.diffusion = model.latent_diffusion()
        self.diagnoser = BiqaDiagnoser(
            model.quality_model().eval(), calibration_of(model),
            suspicions=suspicions_of(model, self.diffusion),
        )  # fmt: skip
        self.corrector: StructureCorrector = model.scm
        if offload is not None:
            keep_one(model, self.diagnoser.model, self.diffusion, offload)
        self._stages: dict[str, Stage1] = {}
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
        offload: bool = False,
        compile: bool = False,
    ) -> Restorer:
        """Load a model by name, from a folder, or from the Hugging Face hub.

        Args:
            name_or_path: "small", a model folder, or ``org/name`` of the hub, which is downloaded
                where the hub's cache does not hold it.
            device: auto, cpu, cuda, cuda:INDEX or mps.
            precision: auto, fp32, bf16 or fp16; auto is fp32 on a CPU and bf16 on a GPU.
            threads: CPU threads; all by default.
            offload: keep only the part at work on the device.
            compile: compile the networks when they are first called.

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
        about = info(name_or_path)
        name = str(name_or_path) if is_hub_name(name_or_path) else about.name
        model = load_model(about.folder, torch.device("cpu") if offload else where, dtype)
        pixel_major(model)
        if compile:
            compile_parts(model)
        provenance = {"model": name, "model_sha256": about.sha256}
        return cls(model, provenance, where if offload else None)

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
        first_stage = self._stage1(options)
        diffusion = self.diffusion.configured(_diffusion_config(self.diffusion.config, options))
        noise, steps = NoiseSource(options.seed), list[Step]()
        rounds = len(options.prompt) or options.max_steps
        # 1 BIQA: views of the photo against the prompts.
        first = diagnosis = diagnoser.diagnose(current, remaining)
        again = diagnoser if options.prompt else self._diagnoser(options, once=True)
        judged = options.guard and not options.prompt  # a user's own words are not overruled
        guard = Guard(again) if judged else None
        if not options.mix_clean:  # as published it is asked about everything in every round
            remaining = not_ruled_out(first, remaining)
        while diagnosis.main is not None and len(steps) < rounds and options.strength > 0:
            begun = time.perf_counter()
            # 2 to 5 Latent diffusion, structural correction, color.
            if options.same_noise:
                noise = NoiseSource(options.seed)
            candidate, note = self._repair(
                current, diagnosis, options, diffusion, first_stage, noise, callback
            )
            if options.only_where_needed:
                candidate = limit(self.diagnoser, current, candidate, diagnosis.main.key)
            if not options.prompt:
                # Each is repaired once; the published loop knows nothing of what covers another.
                remaining = left_after(diagnosis.main.key, remaining, covered=not options.mix_clean)
            # 6 The guard keeps, blends or rolls back.
            if guard is None:
                verdict = Verdict(kind="kept", why="not judged", image=candidate)
            else:
                behind = {step.degradation for step in steps if step.verdict != "rolled back"}
                verdict = guard.judge(diagnosis, current, candidate, remaining, behind=behind)
            if note:
                verdict = dataclasses.replace(verdict, why=f"{verdict.why}; {note}")
            steps.append(Step.of(len(steps), diagnosis, verdict, time.perf_counter() - begun))
            current = verdict.image
            # 7 Look again, where the guard has not done so already.
            diagnosis = verdict.after or again.diagnose(current, remaining)
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
        pixels = current[0].float().clamp(0, 1).cpu()
        return Restoration(image=photo.with_pixels(pixels), report=report)

    def diagnose(self, source: object) -> Diagnosis:
        """Say what is wrong with a photo and how bad it is, and change nothing."""
        photo = from_any(source)
        pixels = photo.pixels[None]
        found = self.diagnoser.diagnose(pixels.to(self.diffusion.device), self.taxonomy)
        return dataclasses.replace(found, severity=estimate(pixels, photo.metadata.quality))

    def maps(self, source: object) -> dict[str, PresenceMap]:
        """Where in a photo each degradation is, by key."""
        pixels = from_any(source).pixels[None].to(self.diffusion.device)
        return presence_maps(self.diagnoser, pixels)

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
            text = self.diffusion.instruction(mixture)
            restored = self.corrector.correct(
                pixels, restored, text, _weight(main, structure_weight)
            )
        return restored

    def _repair(
        self, current: Tensor, diagnosis: Diagnosis, options: RestoreOptions,
        diffusion: LatentDiffusion, first_stage: Stage1 | None, noise: NoiseSource,
        callback: Callback | None,
    ) -> tuple[Tensor, str]:  # fmt: skip
        """Steps 2 to 5 of one round: (1, 3, H, W) → (1, 3, H, W), and a note for the report."""
        assert diagnosis.main is not None
        # Two stages: a restored photo instead of the degraded one conditions the diffusion.
        first: Tensor | None = None
        told = diffusion.instruction(diagnosis.mixture)
        if first_stage is not None:
            first = first_stage(current)
        elif options.two_stage:
            first = self.corrector.correct(current, current, told, 1.0)
        restored = current
        if diagnosis.main.sampled or options.samples:
            # 2 The text embedding, mixed by probability.
            seen = current if first is None else first
            conditioning = diffusion.condition(seen, diagnosis.mixture)
            # 3 Latent diffusion, where its samples help.
            restored = diffusion.sample(
                conditioning, noise, sampler=options.sampler, steps=options.sampling_steps,
                guidance_text=options.guidance_text, guidance_image=options.guidance_image,
                tile=options.tile, tile_overlap=options.tile_overlap,
                techniques=options, callback=callback,
            )  # fmt: skip
        # 4 Structural correction: I_sd + w · R.
        weight = _weight(diagnosis.main, options.structure_weight)
        corrected = self.corrector.correct(current, restored, told, weight, options.clamp)
        # 5 Color.
        method = options.color_fix or diagnosis.main.color_fix
        return keep_colors(corrected, current, first, diagnosis.main.key, method)

    def _stage1(self, options: RestoreOptions) -> Stage1 | None:
        """The restoration model that the options name, read once."""
        if options.stage1 is None:
            return None
        if options.stage1 not in self._stages:
            self._stages[options.stage1] = load_stage1(options.stage1, self.diffusion.device)
        return self._stages[options.stage1]

    def _diagnoser(self, options: RestoreOptions, once: bool = False) -> SupportsDiagnose:
        if options.prompt:
            return PromptDiagnoser(options.prompt, self.model.clip, self.taxonomy)
        only = options.only or (("low_resolution",) if options.scale > 1 else ())
        looking = self._looking(options)
        return ListDiagnoser(
            looking.quick() if once else looking, self.taxonomy, only, options.skip
        )

    def _looking(self, options: RestoreOptions) -> BiqaDiagnoser:
        """The diagnoser that looks as the options say."""
        usual = RestoreOptions()
        if (options.crops, options.mix_clean) == (usual.crops, usual.mix_clean):
            return self.diagnoser
        return self.diagnoser.looking(options.crops, options.mix_clean)


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


def _diffusion_config(config: DiffusionConfig, options: RestoreOptions) -> DiffusionConfig:
    """The model's own way of working, but for what the options say; tiles need no smaller copy."""
    padding = options.prompt_padding
    usual = sys.maxsize if options.tile else config.working_pixels
    return dataclasses.replace(
        config,
        working_pixels=options.working_pixels or usual,
        mask_prompts=config.mask_prompts if padding is None else padding == "masked",
        clamp=options.clamp,
    )


def _weight(degradation: Degradation, chosen: float | None) -> float:
    return degradation.structure_weight if chosen is None else chosen


def _why(diagnosis: Diagnosis, rounds: int, options: RestoreOptions) -> str:
    if options.strength == 0:
        return "strength is 0"
    if diagnosis.main is None:
        return "all prompts done" if options.prompt else "no degradation left"
    return "all prompts done" if options.prompt else f"{rounds} rounds done"
