"""Flags made from the option classes, and default < preset < ``--config`` < flag put together.

Apart so that a new field of an options class is a new flag without another line of code.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from autodir.config import (
    Options,
    OutputOptions,
    RestoreOptions,
    RuntimeOptions,
    TechniqueOptions,
    TrainOptions,
    build,
    check_keys,
    field_kinds,
    flag_name,
    merge,
    read_toml,
    suggestion,
)
from autodir.errors import ConfigError
from autodir.resources import prompts_dir

Command = Callable[..., None]

_PANELS: dict[type[Options], str] = {
    RestoreOptions: "Repair",
    TechniqueOptions: "Published techniques",
    RuntimeOptions: "Model and machine",
    OutputOptions: "Files",
    TrainOptions: "Training",
}
_SHORT = {"output": "-o"}

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="TOML file with options, named as the flags."),
]
Preset = Annotated[
    str | None, typer.Option("--preset", metavar="NAME", help="A named set of options.")
]
Json = Annotated[
    bool, typer.Option("--json", help="One JSON object per line on stdout, the rest on stderr.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
Verbose = Annotated[
    int, typer.Option("--verbose", "-v", count=True, help="Say more; twice: debug messages.")
]


def flags(*classes: type[Options], leave_out: Sequence[str] = ()) -> Callable[[Command], Command]:
    """Give a command one flag for each field of ``classes``; those set arrive as its ``given``.

    Args:
        classes: option classes.
        leave_out: fields that the command does not use, or takes in another way.
    """
    parameters = [
        _parameter(cls, spec)
        for cls in classes
        for spec in sorted(dataclasses.fields(cast("Any", cls)), key=_is_inherited(cls))
        if spec.name not in leave_out
    ]
    names = [parameter.name for parameter in parameters]

    def decorate(command: Command) -> Command:
        signature = inspect.signature(command, eval_str=True)
        own = [
            parameter for parameter in signature.parameters.values() if parameter.name != "given"
        ]

        @functools.wraps(command)
        def run(**arguments: Any) -> None:
            given = {name: arguments.pop(name) for name in names}
            command(
                **arguments,
                given={name: value for name, value in given.items() if value not in (None, [])},
            )

        positional = [
            parameter for parameter in own if parameter.kind is not parameter.KEYWORD_ONLY
        ]
        keyword = [parameter for parameter in own if parameter.kind is parameter.KEYWORD_ONLY]
        cast("Any", run).__signature__ = signature.replace(
            parameters=[*positional, *parameters, *keyword]
        )
        return run

    return decorate


def gather(
    classes: Sequence[type[Options]],
    given: Mapping[str, Any],
    *,
    preset: str | None = None,
    config: Path | None = None,
) -> tuple[Any, ...]:
    """One instance of each class from the layers default < preset < configuration file < flag.

    Raises:
        ConfigError: an unknown key in any layer, an unknown preset, or a value out of range.
    """
    known = sorted(spec.name for cls in classes for spec in dataclasses.fields(cast("Any", cls)))
    layers: list[Mapping[str, Any]] = []
    if preset is not None:
        layers.append(merge(load_preset(preset)))
        check_keys(layers[-1], known, f"the preset {preset!r}")
    if config is not None:
        layers.append(merge(read_toml(config)))
        check_keys(layers[-1], known, str(config))
    return build(classes, merge(*layers, given), "the command line")


def preset_names() -> list[str]:
    """The presets that ship with autodir, in alphabetical order."""
    return sorted(path.stem for path in (prompts_dir() / "presets").glob("*.toml"))


def load_preset(name: str) -> dict[str, Any]:
    """The options of a preset.

    Raises:
        ConfigError: there is no preset of that name.
    """
    if name not in preset_names():
        raise ConfigError(f"There is no preset {name!r}.", suggestion(name, preset_names()))
    return read_toml(prompts_dir() / "presets" / f"{name}.toml")


def _parameter(cls: type[Options], spec: dataclasses.Field[Any]) -> inspect.Parameter:
    kind, _ = field_kinds(cls)[spec.name]
    name = flag_name(spec)
    short = [_SHORT[spec.name]] if spec.name in _SHORT else []
    annotation: Any
    if kind is bool:
        both = f"{name}/--no-{name[2:]}" if spec.default is True else name
        declarations, annotation, metavar = [both], bool | None, None
    elif kind is tuple:
        metavar = "KEY,..." if spec.metadata["text"] == "commas" else "TEXT"
        declarations, annotation = [name, *short], list[str] | None
    else:
        is_text = kind is Path or spec.metadata["text"] == "duration"
        declarations, annotation = [name, *short], (str if is_text else kind) | None
        metavar = _metavar(kind, spec)
    info = typer.Option(
        *declarations,
        metavar=metavar,
        help=spec.metadata["help"] + _choices_text(spec) + _default_text(spec),
        show_default=False,
        rich_help_panel=_PANELS.get(TechniqueOptions if _is_inherited(cls)(spec) else cls),
    )
    return inspect.Parameter(
        spec.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[annotation, info],
    )


def _is_inherited(cls: type[Options]) -> Callable[[dataclasses.Field[Any]], bool]:
    """Whether a field of ``cls`` comes from the techniques; its own fields stand first in help."""
    inherited = {spec.name for spec in dataclasses.fields(TechniqueOptions)}
    is_heir = issubclass(cls, TechniqueOptions)
    return lambda spec: is_heir and spec.name in inherited


def _metavar(kind: type, spec: dataclasses.Field[Any]) -> str:
    limits = spec.metadata["limits"]
    if spec.metadata["text"] == "duration":
        return "TIME"
    if spec.metadata["choices"] is not None and kind is str:
        return "NAME"
    if limits is not None and limits[1] <= 1000:
        return f"{limits[0]:g}..{limits[1]:g}"
    return {int: "N", float: "X", Path: "PATH"}.get(kind, "TEXT")


def _choices_text(spec: dataclasses.Field[Any]) -> str:
    choices = spec.metadata["choices"]
    return "" if choices is None else f" One of {', '.join(str(choice) for choice in choices)}."


def _default_text(spec: dataclasses.Field[Any]) -> str:
    default = spec.default
    if default is dataclasses.MISSING:
        return " Required."
    if default is None or default is False or default == () or spec.metadata["text"] == "duration":
        return ""
    if default is True:
        return " On by default."
    return f" Default: {default}."
