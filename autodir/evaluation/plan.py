"""Suite files: which sets, which systems and which metrics make one table.

Apart so that a suite can be listed and checked without running anything.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autodir.config import check_keys, read_toml, suggestion
from autodir.errors import ConfigError
from autodir.evaluation.datasets import SEVERITIES, SetSpec
from autodir.evaluation.systems import SYSTEMS
from autodir.resources import prompts_dir

SCHEMA = 1
KINDS = ("restoration", "recognition")
_SUITE_KEYS = ("schema", "kind", "title", "seed", "systems", "metrics", "set")
_SET_KEYS = (
    "name",
    "folders",
    "recipe",
    "levels",
    "chains",
    "mixed",
    "limit",
    "goal_psnr",
    "goal_gain",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Suite:
    """One benchmark.

    Attributes:
        name: the stem of its file.
        kind: "restoration" (scores of systems) or "recognition" (the labels alone).
        title: the heading of its table.
        seed: of synthetic degradations and of sampling.
        systems: names in `SYSTEMS`; empty for recognition.
        metrics: names of pyiqa metrics measured besides PSNR and SSIM.
        sets: the rows.
        digest: SHA-256 of the file, so that a result names exactly what was run.
    """

    name: str
    kind: str
    title: str
    seed: int
    systems: tuple[str, ...]
    metrics: tuple[str, ...]
    sets: tuple[SetSpec, ...]
    digest: str


def suites_dir() -> Path:
    """Where the suites are: beside the packed prompts in a wheel, else in ``benchmarks/``."""
    root = prompts_dir().parent
    packed = root / "suites"
    return packed if packed.is_dir() else root / "benchmarks" / "suites"


def find_suite(suite: Path | str) -> Path:
    """The file of a suite given by path or by name.

    Raises:
        ConfigError: there is none.
    """
    path = Path(suite)
    if path.suffix == ".toml":
        if path.is_file():
            return path
        raise ConfigError(f"there is no suite file {path}", "check the path")
    named = suites_dir() / f"{suite}.toml"
    if named.is_file():
        return named
    known = sorted(file.stem for file in suites_dir().glob("*.toml"))
    raise ConfigError(f"unknown suite {str(suite)!r}", suggestion(str(suite), known))


def load_suite(suite: Path | str) -> Suite:
    """Read a suite file, see `benchmarks/suites/` for examples.

    Raises:
        ConfigError: no such suite, an unknown key or name, or a value out of range.
    """
    path = find_suite(suite)
    values = read_toml(path)
    check_keys(values, _SUITE_KEYS, str(path))
    if values.get("schema") != SCHEMA:
        raise ConfigError(f"{path}: schema {values.get('schema')!r}, this version reads {SCHEMA}")
    kind = values.get("kind", "restoration")
    if kind not in KINDS:
        raise ConfigError(f"{path}: unknown kind {kind!r}", suggestion(str(kind), KINDS))
    sets = tuple(spec for row in values.get("set", []) for spec in _expand(row, str(path)))
    names = [spec.name for spec in sets]
    twice = sorted({name for name in names if names.count(name) > 1})
    if not sets or twice:
        raise ConfigError(f"{path} needs sets of different names, got {twice or 'none'}")
    return Suite(
        name=path.stem,
        kind=kind,
        title=str(values.get("title", path.stem)),
        seed=int(values.get("seed", 0)),
        systems=check_systems(values.get("systems", [])),
        metrics=tuple(values.get("metrics", [])),
        sets=sets,
        digest=hashlib.sha256(path.read_bytes()).hexdigest(),
    )


def check_systems(names: Sequence[str]) -> tuple[str, ...]:
    """The names as a tuple.

    Raises:
        ConfigError: one of them is no system.
    """
    for name in names:
        if name not in SYSTEMS:
            raise ConfigError(f"unknown system {name!r}", suggestion(name, list(SYSTEMS)))
    return tuple(names)


def _expand(row: Mapping[str, Any], source: str) -> list[SetSpec]:
    """One ``[[set]]`` → a spec for each level and chain; ``mixed`` keeps the chains in one."""
    check_keys(row, _SET_KEYS, source)
    recipe = str(row.get("recipe", "as_is"))
    chains = tuple(tuple(chain) for chain in row.get("chains", []))
    groups = (chains,) if row.get("mixed", False) or not chains else tuple((c,) for c in chains)
    folders = tuple(row.get("folders", []))
    if not folders:
        raise ConfigError(f"{source}: a set without folders", 'write folders = ["Rain100L"]')
    specs = []
    for group in groups:
        for level in row.get("levels", [0.0]):
            name = str(row.get("name", " + ".join(folders)))
            if len(groups) > 1:
                name = f"{name} {' + '.join(group[0])}"
            if recipe != "as_is":
                name = f"{name} {level}"
            specs.append(
                SetSpec(
                    name=name.strip(),
                    folders=folders,
                    recipe=recipe,
                    level=_level(level, recipe, source),
                    chains=group,
                    limit=row.get("limit"),
                    goal_psnr=_goal(row, "goal_psnr", level),
                    goal_gain=_goal(row, "goal_gain", level),
                )
            )
    return specs


def _level(level: Any, recipe: str, source: str) -> float:
    if recipe == "synthetic" and isinstance(level, str):
        if level not in SEVERITIES:
            raise ConfigError(
                f"{source}: unknown severity {level!r}", suggestion(level, list(SEVERITIES))
            )
        return SEVERITIES[level]
    if isinstance(level, bool) or not isinstance(level, int | float):
        raise ConfigError(f"{source}: level {level!r} is no number")
    return float(level)


def _goal(row: Mapping[str, Any], key: str, level: Any) -> float | None:
    """A goal is one number, or a table keyed by level."""
    goal = row.get(key)
    if isinstance(goal, Mapping):
        goal = goal.get(str(level))
    return None if goal is None else float(goal)
