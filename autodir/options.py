"""What every option class is made of: fields with ranges, their checks, TOML files and layers.

Apart from the options themselves, which several modules declare; never imports torch.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, field
from pathlib import Path
from typing import Any, Literal, Self, cast

from autodir.errors import ConfigError

_WANTED = {
    bool: "It is true or false",
    int: "It is a whole number",
    float: "It is a number",
    str: "It is a text",
    tuple: "It is a text, or several",
    Path: "It is a path",
}
_DURATION_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
_DURATION = re.compile(r"(?P<number>\d+(?:\.\d+)?)(?P<unit>[dhms])")


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The entry of ``known`` that looks most like ``word``; None where nothing comes near."""
    matches = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return matches[0] if matches else None


def suggestion(word: str, known: Sequence[str]) -> str:
    """A hint sentence: the nearest match, where there is one, and everything that is known."""
    match = nearest(word, known)
    listing = f"Known: {', '.join(known)}."
    return f"Did you mean {match!r}? {listing}" if match else listing


def parse_duration(text: str | float) -> float:
    """Seconds in ``"150m"``, ``"90s"``, ``"1h30m"`` or ``"1d"``; a bare number counts seconds.

    Raises:
        ConfigError: ``text`` is no duration, or is not above zero.
    """
    compact = str(text).replace(" ", "").lower()
    parts = list(_DURATION.finditer(compact))
    seconds = math.nan
    if parts and "".join(part.group() for part in parts) == compact:
        seconds = sum(float(part["number"]) * _DURATION_UNITS[part["unit"]] for part in parts)
    elif re.fullmatch(r"\d+(\.\d+)?", compact):
        seconds = float(compact)
    if not 0 < seconds < math.inf:
        raise ConfigError(f"{text!r} is not a duration.", "Write it as 90s, 150m, 2h or 1h30m.")
    return seconds


def option(
    default: Any,
    help_text: str,
    *,
    choices: tuple[Any, ...] | None = None,
    limits: tuple[float, float] | None = None,
    text: Literal["commas", "duration"] | None = None,
) -> Any:
    """A dataclass field together with what is known about it.

    Args:
        default: the value when nobody says otherwise; ``MISSING`` makes the field required.
        help_text: one phrase for ``--help``.
        choices: the admissible values, where they can be listed.
        limits: the least and the greatest admissible number.
        text: how a text for this tuple or number is read: cut at its commas, or as a duration.
    """
    metadata = {"help": help_text, "choices": choices, "limits": limits, "text": text}
    return field(default=default, metadata=metadata)


def flag_name(spec: dataclasses.Field[Any]) -> str:
    """The flag that sets a field: ``max_steps`` → ``--max-steps``."""
    return "--" + spec.name.replace("_", "-")


class Options:
    """What the option classes share: reading from a mapping or a TOML file, and plain values."""

    __slots__ = ()

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], source: str = "the options") -> Self:
        """Build from field names and values; ``source`` is named in errors.

        Raises:
            ConfigError: an unknown key, a missing field, a wrong type, or a value out of range.
        """
        (built,) = build((cls,), values, source)
        return cast("Self", built)

    @classmethod
    def from_toml(cls, path: Path | str) -> Self:
        """Build from a TOML file whose top-level keys are field names.

        Raises:
            ConfigError: as for `from_mapping`, or the file is missing or no TOML.
        """
        return cls.from_mapping(read_toml(path), str(path))

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON-able values: tuples become lists and paths texts."""
        plain: dict[str, Any] = {}
        for spec in dataclasses.fields(cast("Any", self)):
            value = getattr(self, spec.name)
            if isinstance(value, tuple):
                value = list(value)
            plain[spec.name] = str(value) if isinstance(value, Path) else value
        return plain


def read_toml(path: Path | str) -> dict[str, Any]:
    """The keys of a TOML file.

    Raises:
        ConfigError: the file is missing, unreadable, or no TOML.
    """
    try:
        with Path(path).open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise ConfigError(
            f"Cannot read {path}: {error.strerror or error}.",
            "Check the path of the configuration file.",
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path} is not valid TOML: {error}.", "Write lines like max_steps = 2."
        ) from error


def merge(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """One mapping from several, where later layers win and None means “not given”.

    Hyphens in keys count as underscores, so that a TOML file may use the flags' spelling.
    """
    merged: dict[str, Any] = {}
    for layer in layers:
        merged.update(
            {key.replace("-", "_"): value for key, value in layer.items() if value is not None}
        )
    return merged


def build(
    classes: Sequence[type[Options]], values: Mapping[str, Any], source: str = "the options"
) -> tuple[Options, ...]:
    """Distribute ``values`` over several option classes by field name.

    Raises:
        ConfigError: a key belongs to no class, a required field is missing, or a check fails.
    """
    given = merge(values)
    specs = {cls: dataclasses.fields(cast("Any", cls)) for cls in classes}
    check_keys(given, [spec.name for fields in specs.values() for spec in fields], source)
    built = []
    for cls, fields in specs.items():
        missing = [spec for spec in fields if spec.default is MISSING and spec.name not in given]
        if missing:
            hint = str(missing[0].metadata["help"])
            raise ConfigError(f"{flag_name(missing[0])} is missing.", f"It says: {hint}")
        built.append(cls(**{spec.name: given[spec.name] for spec in fields if spec.name in given}))
    return tuple(built)


def check_keys(given: Iterable[str], known: Sequence[str], source: str) -> None:
    """Raise `ConfigError` for the first key of ``given`` that is not in ``known``."""
    for key in given:
        if key not in known:
            raise ConfigError(
                f"Unknown option {key!r} in {source}.", suggestion(key, sorted(known))
            )


def field_kinds(cls: type[Options]) -> dict[str, tuple[type, bool]]:
    """The plain type of each field (tuple for texts), and whether the field may be None."""
    kinds: dict[str, tuple[type, bool]] = {}
    for name, hint in typing.get_type_hints(cls).items():
        members = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        (kind,) = (member for member in members if member is not type(None))
        kinds[name] = (typing.get_origin(kind) or kind, type(None) in members)
    return kinds


def check_fields(options: Options) -> None:
    """Convert harmless types (list → tuple, int → float, text → Path) and check every field."""
    kinds = field_kinds(type(options))
    for spec in dataclasses.fields(cast("Any", options)):
        kind, optional = kinds[spec.name]
        value = getattr(options, spec.name)
        if value is None and optional:
            continue
        value = _convert(spec, value, kind)
        object.__setattr__(options, spec.name, value)
        _check_range(spec, value)


def _convert(spec: dataclasses.Field[Any], value: Any, kind: type) -> Any:
    wrong = ConfigError(
        f"{flag_name(spec)} cannot be {value!r}.", f"{_WANTED[kind]}: {spec.metadata['help']}"
    )
    if kind is tuple:
        texts = (value,) if isinstance(value, str) else value
        if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
            raise wrong
        if spec.metadata["text"] == "commas":
            pieces = (piece.strip() for text in texts for piece in text.split(","))
            return tuple(dict.fromkeys(piece for piece in pieces if piece))
        return tuple(texts)
    if spec.metadata["text"] == "duration" and isinstance(value, str):
        return parse_duration(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is Path and isinstance(value, str) and value:
        return Path(value).expanduser()
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise wrong
    return value


def _check_range(spec: dataclasses.Field[Any], value: Any) -> None:
    name, choices = flag_name(spec), spec.metadata["choices"]
    if choices is not None and value not in choices:
        raise ConfigError(
            f"{name} cannot be {value!r}.",
            suggestion(str(value), [str(choice) for choice in choices]),
        )
    low, high = spec.metadata["limits"] or (None, None)
    if low is not None and not low <= value <= high:  # written so that NaN falls outside
        wanted = f"at least {low}" if high == math.inf else f"between {low} and {high}"
        raise ConfigError(f"{name} cannot be {value}.", f"It must be {wanted}.")
