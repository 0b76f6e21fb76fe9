"""``autodir degrade INPUT... --with ...``: degraded copies, by the synthesis of the training."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from autodir.cli.console import Console
from autodir.cli.flags import ConfigFile, Json, Quiet, Verbose, flags, gather
from autodir.cli.inputs import Input, Inputs, find_inputs, go_through
from autodir.cli.results import Results, goes_to_stdout
from autodir.config import MAX_SEED, OutputOptions
from autodir.errors import ConfigError
from autodir.report import DEGRADATION_SCHEMA, degradation_to_dict

_BESIDE = ".degraded.png"


@flags(OutputOptions)
def degrade(
    inputs: Inputs,
    given: Mapping[str, Any],
    *,
    chain: Annotated[
        list[str],
        typer.Option(
            "--with",
            metavar="KEY[:NAME=VALUE,...]",
            help="A degradation, such as noise:sigma=25 or rain:severity=0.8; "
            "repeatable, applied in order.",
            show_default=False,
        ),
    ],
    seed: Annotated[
        int, typer.Option("--seed", min=0, max=MAX_SEED, help="The seed of all randomness.")
    ] = 0,
    noise_profile: Annotated[
        Path | None,
        typer.Option(
            "--noise-profile",
            metavar="FILE",
            help="A camera measured by calibrate-noise, for --with noise:iso=N.",
        ),
    ] = None,
    config: ConfigFile = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Make degraded copies of photos: photo.jpg becomes photo.degraded.png beside it.

    Each photo draws under the seed and its own file name, so that the same command gives the same
    copies, whichever photos it is given besides.
    """
    (output,) = gather((OutputOptions,), given, config=config)
    to_stdout = goes_to_stdout(inputs, output)
    if json and to_stdout:
        raise ConfigError("--json and the photo would share stdout.", "Name a file with --output.")
    console = Console(json=json, quiet=quiet, verbose=verbose, stdout_taken=to_stdout)

    from autodir.synthesis import specification
    from autodir.synthesis.sensor import NoiseProfile

    wanted = [specification.parse_degradation(text) for text in chain]
    if noise_profile is not None:
        profile = NoiseProfile.load(noise_profile)
        wanted = [profile.applied(entry) for entry in wanted]
    found = find_inputs(inputs, output)
    results = Results(found, output, beside=_BESIDE)

    def work(one: Input) -> None:
        target = None if to_stdout else results.place(one, [entry.key for entry in wanted])
        if target is None and not to_stdout:
            if json:
                console.emit(degradation_to_dict([], source=str(one), output=None, seed=seed))
            console.say(f"{one}: skipped, the result exists")
            return
        photo = one.read(output.max_pixels)
        own = own_seed(seed, one)
        degraded, stages = specification.degrade(photo.pixels[None], wanted, own)
        if not output.dry_run:
            results.write(photo.with_pixels(degraded[0]).to_bytes(target), target)
        where = None if target is None or output.dry_run else str(target)
        drawn = [(stage.key, stage.parameters[0]) for stage in stages]
        if json:
            console.emit(degradation_to_dict(drawn, source=str(one), output=where, seed=seed))
            return
        for key, parameters in drawn:
            settings = "  ".join(f"{name} {_short(value)}" for name, value in parameters.items())
            console.say(f"{one}  {key}  {settings}")
        if where is not None:
            console.say(f"→ {where}")

    go_through(found, work, console=console, schema=DEGRADATION_SCHEMA, fail_fast=output.fail_fast)


def own_seed(seed: int, one: Input) -> int:
    """The seed of one photo: that of the command, mixed with the photo's file name."""
    return seed ^ zlib.crc32(one.source.relative.as_posix().encode("utf-8", "surrogateescape"))


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
