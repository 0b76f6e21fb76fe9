"""Files, folders and globs on this machine: what to read, and where each result goes.

Apart from the restore loop, which sees one photo and no file names.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from autodir.errors import ConfigError, ImageError
from autodir.imaging.files import check_writable
from autodir.imaging.formats import RAW_SUFFIXES, SUFFIXES, WRITTEN_SUFFIXES, result_suffix

__all__ = [
    "Source",
    "check_distinct",
    "check_writable",
    "expand_inputs",
    "needs_diagnosis",
    "plan_output",
    "settle_output",
]

RESTORED = "restored"
"""``photo.jpg`` → ``photo.restored.jpg``; files named so are results, not inputs, of a folder."""

_PLACEHOLDERS = ("stem", "ext", "degradations")
_FIELD = re.compile(r"\{([^{}]*)\}")
_GLOB = re.compile(r"[*?\[]")


@dataclass(frozen=True, kw_only=True)
class Source:
    """One photo to work on.

    Attributes:
        path: the file. One that was named may be missing: reading it says so.
        folder: the folder or the fixed part of the glob that was named, below which the file was
            found; None where the file itself was named.
    """

    path: Path
    folder: Path | None = None

    @property
    def relative(self) -> Path:
        """The path below `folder`; the mere name of a file that was named."""
        return self.path.relative_to(self.folder) if self.folder else Path(self.path.name)


def _is_input(path: Path) -> bool:
    """A photo by its name, and no result of ours."""
    return path.suffix.lower() in SUFFIXES and not _is_result(path)


def _is_hidden(path: Path, folder: Path) -> bool:
    """Hidden itself or in a hidden folder below ``folder``; unfinished files are hidden too."""
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _is_result(path: Path) -> bool:
    """Named ``*.restored.*``, or ``*.restored-2.*`` as a second one is."""
    return re.search(rf"\.{RESTORED}(-\d+)?$", path.stem) is not None


def _apart(exclude: Path | None, folder: Path) -> Path | None:
    """The folder to leave out; None where the named folder lies in it, which is then meant."""
    return None if exclude is None or folder.resolve().is_relative_to(exclude) else exclude


def _below(folder: Path, recursive: bool, exclude: Path | None) -> Iterator[Path]:
    """The photos of a folder in the order of their names, links to nothing among them.

    Links to folders are followed after all else, to folders that have not been seen: a circle of
    links ends, and a folder is searched under its own name where it has one below ``folder``. A
    folder that cannot be listed stands for itself, so that it is not passed over in silence.
    """
    found: list[Path] = []
    seen: set[Path] = set()
    links = deque(_search(folder, recursive, exclude, seen, found))
    while links:
        links.extend(_search(links.popleft(), recursive, exclude, seen, found))
    yield from sorted(found)


def _search(
    folder: Path, recursive: bool, exclude: Path | None, seen: set[Path], found: list[Path]
) -> list[Path]:
    """Add the photos of a folder to ``found``; the links to folders that it holds."""
    place, links = folder.resolve(), list[Path]()
    if place in seen or (exclude is not None and place.is_relative_to(exclude)):
        return []
    is_first = not seen
    seen.add(place)
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        if is_first:
            raise
        found.append(folder)
        return []
    for path in entries:
        try:
            is_folder = path.is_dir()
            is_special = not is_folder and path.exists() and not path.is_file()
        except OSError:  # it may not even be looked at, which reading it will say
            is_folder = is_special = False
        if path.name.startswith(".") or is_special:
            continue
        if not is_folder:
            found += [path] if _is_input(path) else []
        elif recursive and path.is_symlink():
            links.append(path)
        elif recursive:
            links += _search(path, recursive, exclude, seen, found)
    return links


def _split_glob(pattern: str) -> tuple[Path, str]:
    """The folder before the first wildcard, and the pattern below it."""
    parts = Path(pattern).parts
    first = next(i for i, part in enumerate(parts) if _GLOB.search(part))
    return Path(*parts[:first]), str(Path(*parts[first:]))


def _expand_glob(pattern: str, recursive: bool, exclude: Path | None) -> list[Source]:
    """The photos that a glob matches, and those of the folders that it matches."""
    folder, below = _split_glob(pattern)
    exclude = _apart(exclude, folder)
    wants_results = f".{RESTORED}" in pattern
    sources = []
    for path in sorted(folder.glob(below)):
        if _is_hidden(path, folder) or (exclude and path.resolve().is_relative_to(exclude)):
            continue
        if path.is_dir():
            if "**" not in below:  # there every folder's files match on their own
                sources += [Source(path=p, folder=folder) for p in _below(path, recursive, exclude)]
        elif _is_input(path) or (wants_results and _is_result(path)):
            sources.append(Source(path=path, folder=folder))
    if not sources:
        raise ConfigError(f"no photo matches {pattern}", hint="look at what its folder holds")
    return sources


def expand_inputs(
    inputs: Sequence[str | Path], *, recursive: bool = False, exclude: Path | None = None
) -> list[Source]:
    """Find the photos that the arguments of a command name.

    Args:
        inputs: files, folders and globs. A file that exists is never taken for a glob.
        recursive: search folders at every depth.
        exclude: a folder whose files are no inputs, such as that of the results.

    Returns:
        Each photo once, in the order of the arguments; a folder's by name, without hidden files and
        results of earlier runs. A file that was named is there whatever it holds, missing ones too.

    Raises:
        ConfigError: nothing is named, a folder holds no photo, or a glob matches none.
        ImageError: a folder cannot be listed.
    """
    if not inputs:
        raise ConfigError("no input", hint="name a photo, a folder or a glob")
    outside = None if exclude is None else exclude.resolve()
    sources: list[Source] = []
    for name in inputs:
        path = Path(name)
        try:
            if path.is_dir():
                found = [
                    Source(path=p, folder=path)
                    for p in _below(path, recursive, _apart(outside, path))
                ]
                if not found:
                    hint = "" if recursive else "search its folders too with --recursive"
                    raise ConfigError(f"no photo in the folder {path}", hint=hint)
                sources += found
            elif not path.exists() and _GLOB.search(str(name)):
                sources += _expand_glob(str(name), recursive, outside)
            else:
                sources.append(Source(path=path))
        except OSError as error:
            raise ImageError(f"cannot list {path}: {error.strerror or error}") from error
    unique: dict[Path, Source] = {}
    for source in sources:
        unique.setdefault(source.path.absolute(), source)
    return list(unique.values())


def needs_diagnosis(output: str | None) -> bool:
    """Whether the name of a result is known only once the photo's degradations are."""
    return output is not None and "{degradations}" in output


def _fill(template: str, path: Path, degradations: Sequence[str]) -> str:
    """Replace ``{stem}``, ``{ext}`` (with its dot, once) and ``{degradations}``."""
    values = {
        "stem": path.stem,
        "ext": result_suffix(path),
        "degradations": "+".join(degradations) or "clean",
    }
    unknown = [name for name in _FIELD.findall(template) if name not in values]
    if unknown:
        known = " ".join(f"{{{name}}}" for name in _PLACEHOLDERS)
        raise ConfigError(
            f"unknown {{{unknown[0]}}} in --output {template}", hint=f"known: {known}"
        )
    return _FIELD.sub(lambda match: values[match[1]], template.replace(".{ext}", "{ext}"))


def plan_output(
    source: Source, output: str | None, degradations: Sequence[str] = (), *, several: bool = False
) -> Path:
    """Where the result of a photo goes.

    Args:
        source: the photo.
        output: None: beside the photo, as ``photo.restored.jpg``. A file name, for one photo. A
            folder (one that exists, or a name with a final slash or without a suffix), in which the
            tree below the named folder is mirrored. Or a template with ``{stem}``, ``{ext}`` and
            ``{degradations}``.
        degradations: keys of what was repaired, for the template; none gives "clean".
        several: there are more photos than this one, so that one file cannot hold the results.

    Returns:
        The path, which may exist: see `settle_output`.

    Raises:
        ConfigError: a placeholder is unknown, the suffix is none of an image, or one file is named
            for several photos.
    """
    path = source.path
    if output is None:
        return path.with_name(f"{path.stem}.{RESTORED}{result_suffix(path)}")
    if "{" in output:
        filled = Path(_fill(output, path, degradations))
        _check_suffix(filled, path)
        return filled.parent / source.relative.parent / filled.name
    target = Path(output)
    is_folder = target.is_dir() or output.endswith(("/", "\\")) or not target.suffix
    if is_folder:
        return target / source.relative.with_name(path.stem + result_suffix(path))
    if several or source.folder is not None:
        raise ConfigError(
            f"--output {output} is one file for several photos",
            hint="name a folder (end it with /), or a template such as {stem}.fixed{ext}",
        )
    _check_suffix(target, path)
    return target


def _check_suffix(target: Path, source: Path) -> None:
    """Refuse a name that no format goes with, before any work; the photo's own suffix is fine."""
    if target.suffix.lower() not in (WRITTEN_SUFFIXES | {source.suffix.lower()}) - RAW_SUFFIXES:
        raise ConfigError(
            f"--output {target}: no image format has the suffix {target.suffix!r}",
            hint="end a folder's name with /, and a template with {ext}",
        )


def check_distinct(targets: Iterable[Path]) -> None:
    """Make sure that no result would replace another one of the same run.

    Raises:
        ConfigError: two results have one name.
    """
    seen: set[Path] = set()
    for target in targets:
        place = target.absolute()
        if place in seen:
            raise ConfigError(
                f"two results would be written to {target}",
                hint="name a template, or run the folders one by one",
            )
        seen.add(place)


def _is_same(a: Path, b: Path) -> bool:
    """Whether two names mean one existing file, through links too."""
    return a.exists() and b.exists() and a.samefile(b)


def settle_output(
    target: Path,
    source: Source,
    *,
    output: str | None = None,
    overwrite: bool = False,
    skip_existing: bool = False,
    rename: bool = False,
) -> Path | None:
    """Decide what happens where a result's name is taken.

    Args:
        target: from `plan_output`.
        source: the photo.
        output: the option that `target` was made from.
        overwrite: replace a result that exists; the photo itself only where ``output`` names it.
        skip_existing: leave it and skip the photo.
        rename: write ``name-2.jpg``, ``name-3.jpg``, ... instead.

    Returns:
        Where to write, or None to skip the photo.

    Raises:
        ImageError: the name is taken and no option says what to do, or it is the photo's own and
            was not named.
    """
    if not target.exists() and not target.is_symlink():
        return target
    if skip_existing:
        return None
    if rename:
        return _free_name(target)
    if _is_same(target, source.path):
        if overwrite and output is not None and _is_same(Path(output), source.path):
            return target
        raise ImageError(
            f"the result of {source.path} would replace the photo itself",
            hint=f"name it: --output {source.path} --overwrite; or choose another folder",
        )
    if overwrite:
        return target
    raise ImageError(f"{target} exists", hint="--overwrite, --skip-existing or --rename")


def _free_name(target: Path) -> Path:
    """The first of ``name-2``, ``name-3``, ... that is not taken."""
    number = 2
    while (free := target.with_name(f"{target.stem}-{number}{target.suffix}")).exists():
        number += 1
    return free
