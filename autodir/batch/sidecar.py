"""``photo.restored.json`` beside a result: what is needed to repeat it and to compare.

Apart from the report, which says what was done, because this says with what: the hashes of the
input, of the weights and of the program, the machine, the threads, and every option.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from autodir.batch.local import RESTORED
from autodir.config import OutputOptions, RestoreOptions, RuntimeOptions
from autodir.errors import ConfigError, ImageError
from autodir.evaluation.provenance import circumstances
from autodir.imaging.files import read_limited, write_atomic
from autodir.report import plain

SIDECAR_SCHEMA = "autodir.sidecar/1"
_MOST_BYTES = 4_000_000
_FILE_OPTIONS = ("max_pixels", "max_bytes")


def sidecar_path(output: Path) -> Path:
    """``photo.restored.jpg`` → ``photo.restored.json``, a result ``photo.jpg`` too.

    Where that name belongs to the result of another format, or is no sidecar at all, it is
    ``photo.restored.jpg.json``.
    """
    stem = output.stem if f".{RESTORED}" in output.stem else f"{output.stem}.{RESTORED}"
    path = output.with_name(f"{stem}.json")
    return (
        path
        if not path.exists() or _is_about(path, output)
        else output.with_name(f"{stem}{output.suffix}.json")
    )


def _is_about(path: Path, output: Path) -> bool:
    """Whether a file is a sidecar of this result."""
    try:
        found = json.loads(read_limited(path, _MOST_BYTES))
        return (
            bool(found["schema"] == SIDECAR_SCHEMA)
            and Path(found["output"]["path"]) == output.absolute()
        )
    except (ImageError, ValueError, KeyError, TypeError):
        return False


def write_sidecar(
    document: Mapping[str, Any],
    source: tuple[Path, bytes],
    output: tuple[Path, bytes],
    options: tuple[RuntimeOptions, OutputOptions],
    about: Mapping[str, Any],
) -> Path:
    """Write down how a result came about.

    Args:
        document: the JSON object of the restoration.
        source, output: path and content of the photo and of its result.
        options: of the run; those of the repair stand in the document.
        about: see `surroundings`.

    Returns:
        The path of the sidecar.

    Raises:
        ImageError: it cannot be written.
    """
    runtime, limits = options
    machine = about["machine"]
    threads = runtime.threads or machine["threads"]  # those of a worker process may be fewer
    sidecar = {
        "schema": SIDECAR_SCHEMA,
        "input": _file(*source),
        "output": _file(*output),
        "model": {"name": document["model"], "sha256": document["model_sha256"]},
        "program": about["program"],
        "machine": machine | {"threads": threads},
        "runtime": runtime.to_dict() | {"threads": threads},
        "options": document["options"],
        "files": {name: limits.to_dict()[name] for name in _FILE_OPTIONS},
        **{name: document[name] for name in ("clean", "steps", "stopped")},
        "error": None,
    }
    path = sidecar_path(output[0])
    text = json.dumps(plain(sidecar), indent=1)
    write_atomic(text.encode() + b"\n", path)
    return path


def surroundings() -> dict[str, Any]:
    """Hash and versions of the program, and the machine with the threads in use."""
    now = circumstances()
    program = {"sha256": now["code_sha256"], "versions": now["versions"]}
    return {"program": program, "machine": now["hardware"]}


def read_sidecar(path: Path) -> dict[str, Any]:
    """The content of a sidecar, its options checked.

    Returns:
        The object, with ``runtime``, ``restore`` and ``limits`` as instances of their classes.

    Raises:
        ConfigError: it is no sidecar, or names an option that this version does not know.
        ImageError: it cannot be read.
    """
    try:
        sidecar = json.loads(read_limited(path, _MOST_BYTES))
        if sidecar["schema"] != SIDECAR_SCHEMA:
            raise ConfigError(f"{path} is no sidecar but {sidecar['schema']}")
        texts = [sidecar[part]["sha256"] for part in ("input", "output", "model", "program")]
        texts += [sidecar[side]["path"] for side in ("input", "output")]
        if not all(isinstance(text, str) for text in texts) or not isinstance(
            sidecar["steps"], list
        ):
            raise ConfigError(f"{path} is no whole sidecar")
        found = {
            "runtime": RuntimeOptions.from_mapping(sidecar["runtime"], str(path)),
            "restore": RestoreOptions.from_mapping(sidecar["options"], str(path)),
            "limits": OutputOptions.from_mapping(sidecar["files"], str(path)),
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{path} is no sidecar: {type(error).__name__} {error}",
            "Name a file that fix --sidecar has written, such as photo.restored.json.",
        ) from error
    return {**sidecar, **found}


def read_input(sidecar: Mapping[str, Any], beside: Path) -> tuple[Path, bytes]:
    """Path and content of the photo, which may have moved together with its sidecar.

    Raises:
        ImageError: it is not there, or its content is another one.
    """
    recorded = Path(sidecar["input"]["path"])
    places = dict.fromkeys((recorded, beside.parent / recorded.name))
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise ImageError(f"the photo {recorded} is not there", hint="put it beside its sidecar")
    content = read_limited(path, sidecar["limits"].max_bytes)
    if hashlib.sha256(content).hexdigest() != sidecar["input"]["sha256"]:
        raise ImageError(f"{path} has changed since", hint="the sidecar tells of another content")
    return path, content


def differences(sidecar: Mapping[str, Any], model_sha256: str, now: Mapping[str, Any]) -> list[str]:
    """What is not as it was, in words: weights, program, versions, machine."""
    then, found = sidecar["program"], []
    if sidecar["model"]["sha256"] != model_sha256:
        found.append("the weights of the model")
    if then["sha256"] != now["program"]["sha256"]:
        found.append("the program's code")
    versions = now["program"]["versions"]
    found += [
        f"{name} {was} → {versions.get(name, 'absent')}"
        for name, was in then["versions"].items()
        if versions.get(name) != was
    ]
    found += [
        f"{name}: {was} → {now['machine'].get(name)}"
        for name, was in sidecar["machine"].items()
        if now["machine"].get(name) != was
    ]
    return found


def decisions(steps: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """What was repaired and what became of it, round by round."""
    return [(step["degradation"], step["verdict"]) for step in steps]


def _file(path: Path, content: bytes) -> dict[str, Any]:
    digest = hashlib.sha256(content).hexdigest()
    return {"path": str(path.absolute()), "sha256": digest, "bytes": len(content)}
