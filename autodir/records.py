"""The nouns that flow through the restore loop: image, diagnosis, conditioning, step, restoration.

Apart from the code that makes them, so that every stage can speak of them without knowing another
stage.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from autodir.errors import ContractError
from autodir.prompts import Degradation

VerdictKind = Literal["kept", "blended", "rolled back"]


def check_image(image: Tensor, name: str = "image") -> None:
    """Raise `ContractError` unless ``image`` is a floating-point (B, 3, H, W) of finite values."""
    if image.ndim != 4 or image.shape[1] != 3 or not image.is_floating_point():
        raise ContractError(
            f"{name} must be float (B, 3, H, W), got {image.dtype} {tuple(image.shape)}"
        )
    if image.numel() and not bool(torch.isfinite(image).all()):
        raise ContractError(f"{name} holds NaN or infinity")


@dataclass(frozen=True, kw_only=True)
class ImageMetadata:
    """What a file carries besides its colour samples, kept so that the result can carry it too.

    Attributes:
        format: Pillow's format name ("JPEG", "PNG", ...), or "" for an image made in memory.
        mode: Pillow's mode of the source ("RGB", "L", "RGBA", "P", "CMYK", "I;16", ...).
        bit_depth: bits per sample that the source really holds: 8 or 16.
        icc_profile, exif, xmp: raw bytes as found (exif with the orientation tag already reset).
        dpi: pixels per inch (x, y), where stated.
        quality: JPEG: estimated libjpeg quality of the source and its subsampling; both None
            elsewhere.
    """

    path: Path | None = None
    format: str = ""
    mode: str = "RGB"
    bit_depth: int = 8
    icc_profile: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    quality: int | None = None
    subsampling: int | None = None


@dataclass(frozen=True, kw_only=True)
class Image:
    """A photo: sRGB-encoded pixels and everything needed to write it back as it came.

    Attributes:
        pixels: float32 (3, H, W) in [0, 1], sRGB-encoded, upright.
        alpha: float32 (H, W) in [0, 1], or None.
        metadata: what else the file carried.
    """

    pixels: Tensor
    alpha: Tensor | None = None
    metadata: ImageMetadata = field(default_factory=ImageMetadata)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return int(self.pixels.shape[-2]), int(self.pixels.shape[-1])

    def with_pixels(self, pixels: Tensor) -> Image:
        """The same photo with other colour samples (3, H, W) of the same size."""
        if pixels.shape != self.pixels.shape:
            raise ContractError(
                f"pixels must keep {tuple(self.pixels.shape)}, got {tuple(pixels.shape)}"
            )
        return dataclasses.replace(self, pixels=pixels)


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """Phrases and weights that the text embedding is mixed of (AutoDIR §2, e = Σ p_i E_T(T_i)).

    Attributes:
        phrases: P sentences for the text tower.
        weights: P non-negative numbers that sum to 1.
        free: the phrases are a user's own words, not the template's.
    """

    phrases: tuple[str, ...]
    weights: tuple[float, ...]
    free: bool = False

    def __post_init__(self) -> None:
        if not self.phrases or len(self.phrases) != len(self.weights):
            raise ContractError("a mixture needs as many weights as phrases, and at least one")
        if min(self.weights) < 0 or abs(sum(self.weights) - 1) > 1e-3:
            raise ContractError(f"mixture weights must be ≥ 0 and sum to 1, got {self.weights}")


@dataclass(frozen=True, kw_only=True)
class Severity:
    """How bad a degradation is, in a physical unit.

    Attributes:
        value: in ``unit``.
        error: half width of the interval that holds the truth for 68 % of photos.
        unit: levels, px, EV, transmission or quality.
    """

    value: float
    error: float
    unit: str


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What a diagnoser says about a photo.

    Attributes:
        probabilities: softmax over the labels asked about, "no" included; sums to 1. Keyed by
            degradation key.
        presence: independent calibrated probabilities in [0, 1], one per degradation, "no"
            excluded.
        main: the degradation to repair now; None where nothing is found.
        mixture: what conditions the repair.
        prompt: the user's words, where a prompt and not the photo decided.
        severity: by key, where it was asked for.
    """

    probabilities: Mapping[str, float]
    presence: Mapping[str, float]
    main: Degradation | None
    mixture: Mixture
    prompt: str | None = None
    severity: Mapping[str, Severity] = field(default_factory=dict)

    @property
    def is_clean(self) -> bool:
        """True where nothing is left to repair."""
        return self.main is None

    @property
    def main_probability(self) -> float:
        """The probability of `main`, or of "no" for a clean photo."""
        return float(self.probabilities.get(self.main.key if self.main else "no", 1.0))


@dataclass(frozen=True, kw_only=True)
class TextEmbedding:
    """Encoded phrases, one row each.

    Attributes:
        tokens: (B, L, D) last hidden states after the final layer norm.
        pooled: (B, E) projected, L2-normalised sentence vectors (of a mixture: their weighted
            mean).
    """

    tokens: Tensor
    pooled: Tensor


@dataclass(frozen=True, kw_only=True)
class Conditioning:
    """What the denoiser is told besides the noisy latents.

    Attributes:
        text: embedding of the instruction, tokens (B, L, D).
        null_text: embedding of the empty prompt, for classifier-free guidance.
        image_latents: (B, C, h, w) latents of the degraded photo (posterior mean).
    """

    text: TextEmbedding
    null_text: TextEmbedding
    image_latents: Tensor

    def crop(self, top: int, left: int, height: int, width: int) -> Conditioning:
        """The same instruction for a window of the latents."""
        window = self.image_latents[..., top : top + height, left : left + width]
        return dataclasses.replace(self, image_latents=window)

    def without_text(self) -> Conditioning:
        """The null prompt instead of the instruction."""
        return dataclasses.replace(self, text=self.null_text)

    def without_image(self) -> Conditioning:
        """Zero image latents, the null image condition."""
        return dataclasses.replace(self, image_latents=torch.zeros_like(self.image_latents))


class NoiseSource:
    """Gaussian noise drawn on the CPU and then moved: a seed means the same on every device."""

    def __init__(self, seed: int = 0) -> None:
        self._generator = torch.Generator().manual_seed(seed)

    def normal(self, shape: Sequence[int], like: Tensor | None = None) -> Tensor:
        """Standard normal samples of ``shape``, on the device and in the dtype of ``like``."""
        noise = torch.randn(tuple(shape), generator=self._generator)
        return noise if like is None else noise.to(device=like.device, dtype=like.dtype)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The guard's decision on one round.

    Attributes:
        kind: kept, blended (part of the change is taken) or rolled back.
        why: one sentence for a person.
        image: (1, 3, H, W) the photo to go on with.
        after: the diagnosis of the candidate, where the guard made one.
        measures: the figures behind the decision.
    """

    kind: VerdictKind
    why: str
    image: Tensor
    after: Diagnosis | None = None
    measures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Step:
    """One turn of the restore loop."""

    index: int
    degradation: str
    probability: float
    prompt: str | None
    verdict: VerdictKind
    why: str
    seconds: float
    measures: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, index: int, diagnosis: Diagnosis, verdict: Verdict, seconds: float) -> Step:
        """The turn that a diagnosis began and a verdict ended."""
        return cls(
            index=index,
            degradation=diagnosis.main.key if diagnosis.main else "",
            probability=diagnosis.main_probability,
            prompt=diagnosis.prompt,
            verdict=verdict.kind,
            why=verdict.why,
            seconds=seconds,
            measures=verdict.measures,
        )


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was found and done, enough to repeat it.

    Attributes:
        clean: nothing was found, the pixels are untouched.
        stopped: why the loop ended, one phrase.
        first, last: the diagnoses of the input and of the result.
        options: the restore options as plain values.
        provenance: model name, hash and program versions.
    """

    clean: bool
    steps: tuple[Step, ...]
    stopped: str
    first: Diagnosis
    last: Diagnosis
    options: Mapping[str, Any]
    provenance: Mapping[str, Any]
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Restoration:
    """A restored photo and its report."""

    image: Image
    report: Report
