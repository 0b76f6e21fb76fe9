"""``autodir calibrate-noise FRAME...``: measure a camera's noise, for ``degrade --with noise``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from autodir.cli.console import Console
from autodir.cli.flags import Json, Quiet, Verbose
from autodir.cli.inputs import Inputs, find_inputs
from autodir.config import OutputOptions


def calibrate_noise(
    inputs: Inputs,
    *,
    iso: Annotated[float, typer.Option(min=1, help="The ISO speed of these frames.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="The profile to write or add to.")
    ],
    repeated: Annotated[
        bool, typer.Option("--repeated", help="The frames repeat one unmoving scene.")
    ] = False,
    linear: Annotated[
        bool, typer.Option("--linear", help="The frames hold linear light, not sRGB.")
    ] = False,
    patch: Annotated[int, typer.Option(min=4, help="Side of the patches of flat frames.")] = 32,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Fit shot and read noise to frames of flat surfaces, or to repeated frames of one scene.

    Run once for each ISO speed with the same --out; speeds between are computed by gain.
    """
    console = Console(json=json, quiet=quiet, verbose=verbose)
    found = find_inputs(inputs, OutputOptions())

    from autodir.imaging.color import srgb_to_linear
    from autodir.synthesis.sensor import (
        NoiseProfile,
        fit_frames,
        gain_to_decibels,
        iso_to_gain,
    )

    pictures = [one.read(OutputOptions().max_pixels).pixels for one in found]
    frames = pictures if linear else [srgb_to_linear(picture) for picture in pictures]
    level = fit_frames(frames, iso, repeated=repeated, patch=patch)
    profile = NoiseProfile.load(out) if out.is_file() else NoiseProfile(levels=(level,))
    profile = profile.with_level(level)
    profile.save(out)
    if json:
        console.emit(profile.to_dict())
        return
    decibels = gain_to_decibels(iso_to_gain(iso))
    console.say(
        f"ISO {iso:g} ({decibels:.2f} dB)  K {level.shot:.4g}  s² {level.read:.4g}  "
        f"from {level.samples} measurements"
    )
    console.say(f"→ {out}")
