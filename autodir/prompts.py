"""The prompt data: which degradations exist, the sentence for each, and how people name them.

Apart from the networks so that `--help`, checks of options and reports need no torch.
"""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autodir.errors import PromptError
from autodir.phrases import PhraseCorpus, build_corpus
from autodir.resources import prompts_dir

SCHEMA = 1
COLOR_FIXES = ("none", "adain", "wavelet")
_TAXONOMY_KEYS = ("schema", "clean", "clean_index", "template", "degradation")


@dataclass(frozen=True, kw_only=True, slots=True)
class Degradation:
    """One thing that can be wrong with a photo.

    Attributes:
        key: its name in code, flags and reports, such as "low_resolution".
        label: the words that the text tower reads, such as "low resolution".
        structure_weight: w of the structural correction I_res = I_sd + w·R, in [0, 2].
        color_fix: "none", "adain" or "wavelet".
        synthesis: the operator that makes it.
        sampled: whether a round against it draws a sample of the diffusion; where a model's
            samples do not help, the photo takes their place, unless the options ask for samples.
    """

    key: str
    label: str
    structure_weight: float = 1.0
    color_fix: str = "none"
    synthesis: str = ""
    sampled: bool = True

    def __post_init__(self) -> None:
        if not self.key.isidentifier() or not self.label.strip():
            raise PromptError(
                f"a degradation needs a key and a label, got {self.key!r} and {self.label!r}"
            )
        if not 0 <= self.structure_weight <= 2:
            raise PromptError(
                f"{self.key}: structure_weight {self.structure_weight} is not in 0..2"
            )
        if not isinstance(self.sampled, bool):
            raise PromptError(f"{self.key}: sampled is true or false, got {self.sampled!r}")
        if self.color_fix not in COLOR_FIXES:
            raise PromptError(
                f"{self.key}: color_fix {self.color_fix!r} is unknown",
                f"choose from {', '.join(COLOR_FIXES)}",
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Taxonomy:
    """The degradations in softmax order, and the label of a clean photo among them.

    Attributes:
        degradations: what can be repaired; the order fixes the softmax indices.
        clean: key and label that say "nothing to repair".
        clean_index: the place of `clean` in `keys`.
        template: the sentence of a label, with the field ``{label}``.
    """

    degradations: tuple[Degradation, ...]
    clean: str = "no"
    clean_index: int = 0
    template: str = "A photo needs {label} artifact reduction"

    def __post_init__(self) -> None:
        names = [degradation.key for degradation in self.degradations] + [self.clean]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise PromptError(f"the taxonomy names {', '.join(twice)} more than once")
        if not 0 <= self.clean_index <= len(self.degradations):
            raise PromptError(
                f"clean_index {self.clean_index} is not in 0..{len(self.degradations)}"
            )
        if self.template.count("{label}") != 1:
            raise PromptError(f"the template {self.template!r} must hold {{label}} once")

    def __len__(self) -> int:
        return len(self.degradations)

    def __iter__(self) -> Iterator[Degradation]:
        return iter(self.degradations)

    def __contains__(self, key: object) -> bool:
        return any(key in (degradation, degradation.key) for degradation in self.degradations)

    @property
    def keys(self) -> tuple[str, ...]:
        """All K keys in softmax order, `clean` included."""
        keys = [degradation.key for degradation in self.degradations]
        keys.insert(self.clean_index, self.clean)
        return tuple(keys)

    @property
    def labels(self) -> tuple[str, ...]:
        """All K labels in softmax order, `clean` included."""
        labels = [degradation.label for degradation in self.degradations]
        labels.insert(self.clean_index, self.clean)
        return tuple(labels)

    @property
    def sentences(self) -> tuple[str, ...]:
        """All K prompts in softmax order: the template filled with each label."""
        return tuple(self.template.format(label=label) for label in self.labels)

    def prompt(self, key: str) -> str:
        """The template for a key (``clean`` included): "A photo needs rain artifact reduction"."""
        return self.sentences[self.index(key)]

    def get(self, key: str) -> Degradation:
        """The degradation of a key or label; "-", "_" and " " and upper case make no difference.

        Raises:
            PromptError: there is none; the hint names the nearest.
        """
        wanted = _normal(key)
        for degradation in self.degradations:
            if wanted in (_normal(degradation.key), _normal(degradation.label)):
                return degradation
        names = [degradation.key for degradation in self.degradations]
        raise PromptError(f"unknown degradation {key!r}", _nearest(wanted, names))

    def index(self, key: str) -> int:
        """The softmax index of a key; the clean one too.

        Raises:
            PromptError: the key is unknown.
        """
        name = self.clean if _normal(key) == _normal(self.clean) else self.get(key).key
        return self.keys.index(name)

    def without(self, *names: str | Degradation) -> Taxonomy:
        """The same taxonomy less some degradations; the clean label stays.

        A `Degradation` that is not here is no error, for a user may ask for the same repair twice.

        Raises:
            PromptError: a key is unknown here.
        """
        gone = {self.get(name).key if isinstance(name, str) else name.key for name in names}
        return self._select(lambda degradation: degradation.key not in gone)

    def only(self, keys: Iterable[str]) -> Taxonomy:
        """The same taxonomy with these degradations alone, in softmax order; the clean label stays.

        Raises:
            PromptError: a key is unknown here.
        """
        wanted = {self.get(key).key for key in keys}
        return self._select(lambda degradation: degradation.key in wanted)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as a model folder stores them."""
        rows = [dataclasses.asdict(degradation) for degradation in self.degradations]
        return {
            "schema": SCHEMA,
            "clean": self.clean,
            "clean_index": self.clean_index,
            "template": self.template,
            "degradation": rows,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], source: str = "taxonomy") -> Taxonomy:
        """Read what `to_dict` or a TOML file says.

        Raises:
            PromptError: a key is unknown or missing, a value out of range, the schema another.
        """
        check_schema(data, source)
        _check_keys(data, _TAXONOMY_KEYS, source)
        fields = [field.name for field in dataclasses.fields(Degradation)]
        rows = data.get("degradation", [])
        for row in rows:
            _check_keys(row, fields, source)
        try:
            degradations = tuple(Degradation(**row) for row in rows)
            return cls(
                degradations=degradations, **{k: data[k] for k in _TAXONOMY_KEYS[1:4] if k in data}
            )
        except (TypeError, AttributeError) as error:
            raise PromptError(f"{source} is malformed: {error}") from error

    def _select(self, keep: Callable[[Degradation], bool]) -> Taxonomy:
        kept = tuple(degradation for degradation in self.degradations if keep(degradation))
        before = sum(
            1 for degradation in self.degradations[: self.clean_index] if keep(degradation)
        )
        return dataclasses.replace(self, degradations=kept, clean_index=before)


@dataclass(frozen=True, kw_only=True, slots=True)
class Templates:
    """The sentences of ``templates.toml``: of a label, and of no instruction at all."""

    template: str
    null: str


def load_taxonomy(path: Path | None = None) -> Taxonomy:
    """Read a taxonomy; without a path the one that ships with autodir.

    A taxonomy that states no template takes it from ``templates.toml`` beside it.

    Raises:
        PromptError: the file is missing or malformed.
    """
    path = path or prompts_dir() / "taxonomy.toml"
    data = read_toml(path)
    templates = path.with_name("templates.toml")
    if "template" not in data and templates.is_file():
        data["template"] = load_templates(templates).template
    return Taxonomy.from_dict(data, source=str(path))


def load_templates(path: Path | None = None) -> Templates:
    """Read ``templates.toml``.

    Raises:
        PromptError: the file is missing or malformed.
    """
    path = path or prompts_dir() / "templates.toml"
    data = read_toml(path)
    check_schema(data, str(path))
    _check_keys(data, ("schema", "template", "null"), str(path))
    if not isinstance(data.get("template"), str) or not isinstance(data.get("null"), str):
        raise PromptError(f"{path} needs the sentences 'template' and 'null'")
    return Templates(template=data["template"], null=data["null"])


def load_phrases(path: Path | None = None) -> PhraseCorpus:
    """Read the phrase corpus from a folder of ``<key>.toml`` files and ``frames.toml``.

    Raises:
        PromptError: a file is missing or malformed.
    """
    folder = path or prompts_dir() / "phrases"
    tables = {file.stem: read_toml(file) for file in sorted(folder.glob("*.toml"))}
    for name, table in tables.items():
        check_schema(table, str(folder / f"{name}.toml"))
    if "frames" not in tables:
        raise PromptError(f"{folder / 'frames.toml'} is missing")
    return build_corpus(tables)


def load_heldout(path: Path | None = None) -> dict[str, tuple[str, ...]]:
    """Sentences by key (and "unknown") that no training ever reads, to measure understanding.

    Raises:
        PromptError: the file is missing or malformed.
    """
    path = path or prompts_dir() / "heldout.toml"
    data = read_toml(path)
    check_schema(data, str(path))
    return {key: tuple(rows) for key, rows in data.items() if key != "schema"}


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises:
        PromptError: it is missing, unreadable or no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise PromptError(f"cannot read {path}: {error}") from error


def check_schema(data: Mapping[str, Any], source: str) -> None:
    """Raise `PromptError` unless ``schema`` is the one that this version reads."""
    if data.get("schema") != SCHEMA:
        raise PromptError(f"{source}: schema {data.get('schema')!r}, this version reads {SCHEMA}")


def _check_keys(data: Mapping[str, Any], known: Iterable[str], source: str) -> None:
    known = list(known)
    for key in data:
        if key not in known:
            raise PromptError(f"{source}: unknown key {key!r}", _nearest(key, known))


def _normal(name: str) -> str:
    return name.strip().lower().replace("-", "_").replace(" ", "_")


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    listed = f"known: {', '.join(known)}" if known else "nothing is left to choose from"
    return f"did you mean {near[0]!r}? {listed}" if near else listed
