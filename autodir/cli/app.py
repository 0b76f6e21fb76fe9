"""The Typer application, and the one place that turns errors into exit codes.

Apart so that no other module decides how the process ends. Commands import what needs torch when
they run, not before.

code  meaning
0     done
1     several inputs, and some of them failed
2–6   one error of the family in `autodir.errors`; 2 also for a malformed command line
10    ``diagnose --fail-on`` found what it was to find
11    ``replay`` gave another result
70    a bug: a broken contract or an unforeseen exception
130   interrupted
"""

from __future__ import annotations

import io
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer

from autodir.cli import (
    calibrate_noise,
    degrade,
    diagnose,
    doctor,
    evaluate,
    models,
    replay,
    restore,
    schema,
    train,
)
from autodir.cli.console import Console
from autodir.cli.gate import DegradationFoundError
from autodir.cli.replay import ResultDiffersError
from autodir.cli.tally import FilesFailedError
from autodir.errors import (
    AutodirError,
    CheckpointError,
    ConfigError,
    ContractError,
    DeviceError,
    ImageError,
    MissingExtraError,
    PromptError,
)
from autodir.report import error_to_dict

EXIT_CODES: dict[type[AutodirError], int] = {
    ConfigError: 2,
    PromptError: 2,
    ImageError: 3,
    CheckpointError: 4,
    DeviceError: 5,
    MissingExtraError: 6,
    ContractError: 70,
}
SOME_FILES_FAILED, DEGRADATION_FOUND, RESULT_DIFFERS, BUG, INTERRUPTED = 1, 10, 11, 70, 130

app = typer.Typer(
    name="autodir",
    help="Find out what is wrong with a photo, repair it, and leave a good photo alone.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("fix")(restore.fix)
app.command("diagnose")(diagnose.diagnose)
app.command("degrade")(degrade.degrade)
app.command("calibrate-noise")(calibrate_noise.calibrate_noise)
app.command("evaluate")(evaluate.evaluate)
app.command("train")(train.train)
app.add_typer(models.app, name="models")
app.command("doctor")(doctor.doctor)
app.command("replay")(replay.replay)
app.command("schema")(schema.schema)


def _show_version(wanted: bool) -> None:
    if wanted:
        import autodir

        typer.echo(f"autodir {autodir.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Find out what is wrong with a photo, repair it, and leave a good photo alone."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and leave the process with its exit code."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Run the command line; the exit code.

    Args:
        arguments: what stands behind the program's name.
    """
    arguments = list(arguments)
    for stream in (
        sys.stdout,
        sys.stderr,
    ):  # a terminal that lacks a character must not end a repair
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app(args=arguments, prog_name="autodir")
    except SystemExit as ending:
        return ending.code if isinstance(ending.code, int) else int(ending.code is not None)
    except FilesFailedError as failed:
        return exit_code(failed.errors[0]) if failed.is_alone else SOME_FILES_FAILED
    except DegradationFoundError:
        return DEGRADATION_FOUND
    except ResultDiffersError:
        return RESULT_DIFFERS
    except AutodirError as error:
        _show(error, as_json="--json" in arguments)
        return exit_code(error)
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:  # the last door: a person gets a sentence, and the trace on request
        if any(argument in arguments for argument in ("-v", "-vv", "--verbose")):
            traceback.print_exc()
        what = f"{type(error).__name__}: {error}"
        bug = AutodirError(
            f"An unforeseen error: {what}", "Run again with -v for the trace, and report it."
        )
        _show(bug, as_json="--json" in arguments)
        return BUG
    return 0


def exit_code(error: AutodirError) -> int:
    """The exit code of an error: its own class's, else that of the nearest ancestor."""
    return next((EXIT_CODES[cls] for cls in type(error).__mro__ if cls in EXIT_CODES), BUG)


def _show(error: AutodirError, *, as_json: bool) -> None:
    console = Console(json=as_json)
    if as_json:
        console.emit(error_to_dict(error))
    else:
        console.error(error)
