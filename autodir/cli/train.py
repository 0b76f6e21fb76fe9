"""``autodir train PART``: from clean photos to a model folder within a budget of time."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from autodir.cli.console import Console
from autodir.cli.flags import ConfigFile, Quiet, Verbose, flags, gather
from autodir.config import TRAINING_PARTS, TrainOptions


@flags(TrainOptions, leave_out=("part",))
def train(
    part: Annotated[
        str, typer.Argument(metavar="PART", help="|".join(TRAINING_PARTS), show_default=False)
    ],
    given: Mapping[str, Any],
    *,
    config: ConfigFile = None,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Train one part of a model, or all of them in order; a stopped run goes on with --resume."""
    (options,) = gather((TrainOptions,), {**given, "part": part}, config=config)
    first = os.environ.get("RANK", "0") == "0"  # of several processes that accelerate launches
    console = Console(quiet=quiet or not first, verbose=1 + verbose if first else 0)

    from autodir.training.run import run_part

    start: Callable[[Path], None] | None = None
    if options.stable_diffusion is not None:
        from autodir.conversion.starting import start as start_from

        start = partial(start_from, options.stable_diffusion, options.clip)
    console.say(f"training {options.part} for {options.budget / 60:.1f} min → {options.out}")
    run_part(options, start)
    console.say(f"done: {options.out}")
