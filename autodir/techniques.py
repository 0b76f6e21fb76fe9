"""Options of the published techniques that a repair can be composed of, each neutral by default.

Apart from the options of the repair itself, which inherit them; never imports torch.
"""

from __future__ import annotations

from dataclasses import dataclass

from autodir.options import Options, check_fields, option

GUIDANCE_SPACES = ("pixel", "latent")
STARTS = ("noise", "photo")


@dataclass(frozen=True, kw_only=True, slots=True)
class TechniqueOptions(Options):
    """How a round is sampled and decoded beyond the model's own way."""

    gamma: float = option(
        0.05, "dreamclean: share of the noise renewed by a correction; 0 is none.", limits=(0, 1)
    )
    corrections: int = option(1, "dreamclean: corrections at each level.", limits=(0, 64))
    inversion_depth: float = option(
        0.2,
        "dreamclean: how far the photo is inverted, as a share of the chain.",
        limits=(0.001, 1),
    )
    inversion_iterations: int = option(
        0, "dreamclean: fixed-point iterations of each inversion step.", limits=(0, 16)
    )
    guidance_region: float = option(
        0.0,
        "Pull of flat regions towards the stage-1 result, or the photo; 0 is none.",
        limits=(0.0, 100.0),
    )
    guidance_space: str = option("pixel", "Where that pull is measured.", choices=GUIDANCE_SPACES)
    guidance_repeat: int = option(1, "How often it pulls in a sampling step.", limits=(1, 16))
    guidance_from: float = option(
        1.0, "Noisiest part of the chain where it pulls, as a share.", limits=(0.0, 1.0)
    )
    guidance_until: float = option(
        0.0, "Cleanest part of the chain where it pulls, as a share.", limits=(0.0, 1.0)
    )
    two_stage: bool = option(
        False, "Let the structural correction remove the degradation before the diffusion."
    )
    stage1: str | None = option(
        None, "A restoration model (a file that spandrel reads) to run before the diffusion."
    )
    start: str | None = option(
        None,
        "Begin with noise, or with the photo under the last step's noise; as the model was made.",
        choices=STARTS,
    )
    fidelity: float = option(
        0.0, "Weight of the photo's features in the decoder; 0 is the plain one.", limits=(0.0, 1.0)
    )

    def __post_init__(self) -> None:
        """Check types, ranges and choices."""
        check_fields(self)
