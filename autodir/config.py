"""Every option of every command: frozen dataclasses whose fields say their range, choices and help.

Apart so that the command line, TOML files and the library share one check; never imports torch.

A field is at once a library argument, a TOML key and, with hyphens, a command-line flag. Layers are
merged in the order default < preset < ``--config`` file < flag; a key that no class knows is an
error that names the nearest known one.
"""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import MISSING, dataclass
from pathlib import Path

from autodir.errors import ConfigError
from autodir.options import (
    Options,
    build,
    check_fields,
    check_keys,
    field_kinds,
    flag_name,
    merge,
    nearest,
    option,
    parse_duration,
    read_toml,
    suggestion,
)
from autodir.techniques import TechniqueOptions

__all__ = [
    "ADAPTERS",
    "CHAINS",
    "COLOR_FIXES",
    "MAX_SEED",
    "PADDINGS",
    "PRECISIONS",
    "SAMPLER_NAMES",
    "SCALES",
    "TRAINING_PARTS",
    "BatchOptions",
    "Options",
    "OutputOptions",
    "RestoreOptions",
    "RuntimeOptions",
    "TechniqueOptions",
    "TrainOptions",
    "build",
    "check_keys",
    "field_kinds",
    "flag_name",
    "merge",
    "nearest",
    "option",
    "parse_duration",
    "read_toml",
    "suggestion",
]

SAMPLER_NAMES = ("euler", "euler_ancestral", "ddim", "dpmpp_2m", "dreamclean")
COLOR_FIXES = ("none", "adain", "wavelet")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
TRAINING_PARTS = (
    "text", "biqa", "locator", "head", "autoencoder", "diffusion", "correction", "clearing",
    "sharpening", "refinement", "lighting", "trial", "calibration", "adapter", "cfw", "all",
)  # fmt: skip
SCALES = (1, 2, 4)
CHAINS = ("realesrgan", "stablesr", "resshift", "codeformer")
ADAPTERS = ("sft", "control")
PADDINGS = ("masked", "seen")
MAX_SEED = 2**63 - 1

_OF_SAMPLES = (
    *(part.name for part in dataclasses.fields(TechniqueOptions)),
    "sampler", "sampling_steps", "guidance_text", "guidance_image", "structure_weight", "tile",
    "tile_overlap", "working_pixels", "mix_clean", "prompt_padding", "same_noise", "clamp",
)  # fmt: skip
"""Options that say how the diffusion samples, or that all is to be as published."""
_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")


@dataclass(frozen=True, kw_only=True, slots=True)
class RestoreOptions(TechniqueOptions):
    """What to repair in a photo and how; the report stores it, so a result can be repeated."""

    prompt: tuple[str, ...] = option(
        (), "What to repair, in your words; repeatable: one round each, in order."
    )
    only: tuple[str, ...] = option(
        (), "Look for these degradations alone, comma-separated.", text="commas"
    )
    skip: tuple[str, ...] = option(
        (), "Leave these degradations alone, comma-separated.", text="commas"
    )
    strength: float = option(
        1.0, "How much of the repair is taken; 0 gives the input.", limits=(0.0, 1.0)
    )
    max_steps: int = option(4, "Most rounds of diagnosis and repair.", limits=(0, 64))
    sampler: str = option("euler", "How the diffusion is integrated.", choices=SAMPLER_NAMES)
    sampling_steps: int | None = option(
        None, "Sampling steps in each round; the model's own number by default.", limits=(1, 1000)
    )
    guidance_text: float = option(
        1.0, "Classifier-free guidance of the instruction; 1 is none.", limits=(0.0, 30.0)
    )
    guidance_image: float = option(
        1.0, "Classifier-free guidance of the photo; 1 is none.", limits=(0.0, 30.0)
    )
    structure_weight: float | None = option(
        None, "Weight of the structural correction; by degradation by default.", limits=(0.0, 2.0)
    )
    color_fix: str | None = option(
        None, "Match colors to the input; by degradation by default.", choices=COLOR_FIXES
    )
    guard: bool = option(True, "Judge every round, and roll back those that do not help.")
    only_where_needed: bool = option(
        False, "Repair the degraded parts of a photo, and leave its clean parts alone."
    )
    seed: int = option(0, "The seed of the sampling noise.", limits=(0, MAX_SEED))
    scale: int = option(1, "Enlarge so many times, then treat as low resolution.", choices=SCALES)
    tile: int | None = option(
        None,
        "Diffuse the photo at its own size in tiles of so many latents, of 8 pixels each.",
        limits=(8, math.inf),
    )
    tile_overlap: int | None = option(
        None, "Latents that neighboring tiles share; half a tile by default.", limits=(0, math.inf)
    )
    working_pixels: int | None = option(
        None,
        "Larger photos are diffused at this area; the model's own by default.",
        limits=(4096, math.inf),
    )
    crops: int = option(
        3, "Native crops along each side that are diagnosed; 1 is the center.", limits=(1, 8)
    )
    mix_clean: bool = option(
        False,
        'Let the prompt of "no" into the mixture, and ask about all in each round, as published.',
    )
    prompt_padding: str | None = option(
        None,
        "Whether the text tower sees the padding of --prompt; the model's own way by default.",
        choices=PADDINGS,
    )
    same_noise: bool = option(False, "Start every round from the same noise, as published.")
    clamp: bool = option(True, "Limit what a round hands on to displayable values.")

    @property
    def samples(self) -> bool:
        """Whether anything is asked for of the diffusion, which then draws in every round."""
        usual = type(self)()
        return any(getattr(self, name) != getattr(usual, name) for name in _OF_SAMPLES)

    def __post_init__(self) -> None:
        """Check types, ranges and choices, and that nothing is both wanted and skipped."""
        check_fields(self)
        both = [key for key in self.only if key in self.skip]
        if both:
            raise ConfigError(
                f"{both[0]!r} stands in both --only and --skip.",
                "Name each degradation in one of the two.",
            )
        if self.tile_overlap is not None and self.tile_overlap >= (self.tile or 0):
            raise ConfigError(
                f"--tile-overlap cannot be {self.tile_overlap}.",
                "It must be less than --tile, for example --tile 64 --tile-overlap 32.",
            )
        if any(not text.strip() for text in self.prompt):
            raise ConfigError(
                "--prompt is empty.", 'Say what to repair, for example --prompt "remove rain".'
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class RuntimeOptions(Options):
    """Which model runs, and on what."""

    model: str = option(
        "small", "A model's name, the path of a model folder, or org/name of the Hugging Face hub."
    )
    device: str = option("auto", "auto, cpu, cuda, cuda:INDEX or mps.")
    precision: str = option("auto", "Number format of the networks.", choices=PRECISIONS)
    offload: bool = option(False, "Keep only the part at work in the memory of the GPU.")
    compile: bool = option(False, "Compile the networks: slow at first, then faster.")
    threads: int | None = option(None, "CPU threads; all by default.", limits=(1, 4096))

    def __post_init__(self) -> None:
        """Check types and choices, and the form of the device."""
        check_fields(self)
        if not _DEVICE.fullmatch(self.device):
            known = ["auto", "cpu", "cuda", "cuda:0", "mps"]
            raise ConfigError(
                f"--device cannot be {self.device!r}.", suggestion(self.device, known)
            )
        if not self.model.strip():
            raise ConfigError("--model is empty.", "Name a model, for example --model small.")
        if self.offload and self.compile:
            raise ConfigError(
                "--offload and --compile exclude each other.",
                "Compiled networks stay where they are: give one of the two.",
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputOptions(Options):
    """Which files are read, and where and whether results are written."""

    output: str | None = option(
        None, "File, folder, or template with {stem}, {ext}, {degradations}; - for stdout."
    )
    overwrite: bool = option(False, "Replace results that exist.")
    skip_existing: bool = option(False, "Pass over inputs whose result exists.")
    rename: bool = option(False, "Number the result where its name is taken.")
    recursive: bool = option(False, "Search folders at every depth.")
    fail_fast: bool = option(False, "Stop at the first file that fails.")
    dry_run: bool = option(False, "Say what would be done; write nothing.")
    max_pixels: int = option(
        200_000_000, "Refuse photos of more pixels than this.", limits=(1, math.inf)
    )
    max_bytes: int = option(
        2_000_000_000, "Refuse files of more bytes than this.", limits=(1, math.inf)
    )
    isolate: bool = option(
        False, "Decode in a process of its own, which a damaged file may crash or hang."
    )
    decode_timeout: float = option(
        60.0, "With --isolate: give a file up after this time.", limits=(0.1, 86400.0),
        text="duration",
    )  # fmt: skip

    def __post_init__(self) -> None:
        """Check types and ranges, and that at most one answer to an existing result is given."""
        check_fields(self)
        chosen = [name for name in ("overwrite", "skip_existing", "rename") if getattr(self, name)]
        if len(chosen) > 1:
            flags = " and ".join("--" + name.replace("_", "-") for name in chosen)
            raise ConfigError(f"{flags} exclude each other.", "Give at most one of them.")
        if self.output is not None and not self.output:
            raise ConfigError("--output is empty.", "Name a file, a folder or a template.")


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchOptions(Options):
    """How many photos are gone through, and what a result takes over from its file."""

    resume: bool = option(False, "Go on where an earlier run of the same command was stopped.")
    jobs: int = option(1, "Processes that repair, each with a share of the CPU.", limits=(1, 256))
    keep_times: bool = option(False, "Give results the times of their photos.")
    keep_permissions: bool = option(False, "Give results the permissions of their photos.")

    def __post_init__(self) -> None:
        """Check types and ranges."""
        check_fields(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainOptions(Options):
    """One training run: which part, on what data, for how long."""

    part: str = option(MISSING, "What to train.", choices=TRAINING_PARTS)
    data: Path = option(MISSING, "Folder of clean photos.")
    pairs: Path | None = option(
        None, "Folder of degraded and clean pairs, used besides the synthetic ones."
    )
    out: Path = option(MISSING, "The model folder to write.")
    budget: float = option(
        9000.0, "Wall-clock time: 90s, 150m, 2h.", limits=(1.0, math.inf), text="duration"
    )
    batch: int | None = option(
        None, "Patches in a step; the recipe's own number by default.", limits=(1, math.inf)
    )
    crop: int | None = option(
        None, "Side of the patches in pixels; the recipe's own by default.", limits=(32, 4096)
    )
    learning_rate: float | None = option(
        None, "Peak learning rate; the recipe's own by default.", limits=(0.0, 1.0)
    )
    seed: int = option(0, "The seed of data, weights and noise.", limits=(0, MAX_SEED))
    resume: bool = option(False, "Go on where a run in the same folder was stopped.")
    threads: int | None = option(None, "CPU threads; all by default.", limits=(1, 4096))
    precision: str = option("auto", "Number format of the training.", choices=PRECISIONS)
    init: Path | None = option(None, "Model folder to start from.")
    kind: str = option(
        "sft", "Of adapter: spatial feature transform or IRControlNet.", choices=ADAPTERS
    )
    experts: tuple[str, ...] = option(
        (),
        "Of clearing, sharpening, refinement, lighting, trial: train these alone.",
        text="commas",
    )
    second_order: str | None = option(
        None, "Published chain that degrades the samples of low resolution.", choices=CHAINS
    )
    stable_diffusion: str | None = option(
        None, "Train sd15 from this Stable Diffusion 1.5: a diffusers folder, or a name on the hub."
    )
    clip: str = option(
        "openai/clip-vit-large-patch14",
        "CLIP for --stable-diffusion: a transformers or open_clip folder, or its name on the hub.",
    )
    checkpointing: bool = option(
        False, "Compute activations twice to train large networks in less memory."
    )

    def __post_init__(self) -> None:
        """Check types, ranges and choices."""
        check_fields(self)
