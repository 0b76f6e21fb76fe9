"""Commands are run in this process, on a stand-in for the model; what they change is put back."""

from __future__ import annotations

import json
import logging
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import jsonschema
import numpy as np
import PIL.Image
import pytest
import torch

from autodir.cli.console import Console
from autodir.config import RestoreOptions
from autodir.diagnosis.maps import PresenceMap
from autodir.errors import CheckpointError, PromptError
from autodir.imaging.io import Photo
from autodir.prompts import load_taxonomy
from autodir.records import Diagnosis, Mixture, Report, Restoration, Severity, Step
from autodir.report import to_json
from autodir.schema import json_schema

Run = Callable[..., int]

UNLUCKY = 13
"""The seed under which the stand-in rolls every round back."""


@dataclass(frozen=True)
class PlannedStep:
    prompt: str | None
    degradation: str
    probability: float
    structure_weight: float


@dataclass(frozen=True)
class SamplingStep:
    index: int
    total: int


class FakeRestorer:
    """A restorer that finds dark photos underexposed and makes them half as dark."""

    info: ClassVar[dict[str, str]] = {"model": "small", "model_sha256": "ab12", "torch": "2"}
    taxonomy = load_taxonomy()
    opened: ClassVar[list[tuple[Any, ...]]] = []

    @classmethod
    def from_pretrained(
        cls,
        name: str,
        device: str = "auto",
        precision: str = "auto",
        threads: int | None = None,
        **unused: object,
    ) -> FakeRestorer:
        if name != "small":
            raise CheckpointError(f"no model {name!r}", "known models: small")
        cls.opened.append((name, device, precision, threads))
        return cls()

    def diagnose(self, source: Photo) -> Diagnosis:
        dark = float(source.pixels.mean()) < 0.4
        main = load_taxonomy().get("underexposure") if dark else None
        rest = {"noise": 0.05, "no": 0.05} if dark else {"noise": 0.02, "no": 0.93}
        return Diagnosis(
            probabilities={"underexposure": 0.9 if dark else 0.05} | rest,
            presence={"underexposure": 0.95 if dark else 0.1, "noise": 0.6},
            main=main,
            mixture=Mixture(phrases=("brighter",), weights=(1.0,)),
            severity={"noise": Severity(value=3.06, error=1.0, unit="levels")},
        )

    def maps(self, source: Photo) -> dict[str, PresenceMap]:
        centers = torch.tensor([6.0])
        found = PresenceMap(
            logits=torch.zeros(1, 1), rows=centers, columns=centers, size=source.size
        )
        return {"noise": found, "rain": found}

    def plan(self, source: Photo, options: RestoreOptions) -> list[PlannedStep]:
        if options.prompt:
            return [PlannedStep(text, self._key(text), 0.97, 1.0) for text in options.prompt]
        main = self.diagnose(source).main
        return [PlannedStep(None, main.key, 0.9, 1.0)] if main else []

    def restore(
        self,
        source: Photo,
        options: RestoreOptions,
        callback: Callable[[SamplingStep], object] | None = None,
    ) -> Restoration:
        planned = self.plan(source, options)[: options.max_steps]
        verdict = "rolled back" if options.seed == UNLUCKY else "kept"
        steps = []
        for index, step in enumerate(planned):
            if callback is not None:
                callback(SamplingStep(index=0, total=1))
            steps.append(
                Step(
                    index=index,
                    degradation=step.degradation,
                    probability=step.probability,
                    prompt=step.prompt,
                    verdict=verdict,  # type: ignore[arg-type]
                    why="it is brighter",
                    seconds=2.1,
                    measures={"gain": 1.5},
                )
            )
        photo = source.enlarged(options.scale)
        if steps and verdict == "kept" and options.strength:
            photo = photo.with_pixels(0.5 * photo.pixels + 0.5)
        report = Report(
            clean=not steps,
            steps=tuple(steps),
            stopped="no degradation left" if steps else "nothing found",
            first=self.diagnose(source),
            last=self.diagnose(photo),
            options=options.to_dict(),
            provenance=self.info,
            seconds=2.4,
        )
        return Restoration(image=photo, report=report)

    @staticmethod
    def _key(text: str) -> str:
        if "dark" not in text:
            raise PromptError(f"{text!r} names no known degradation", "known: underexposure")
        return "underexposure"


def strictly(schema: Any) -> Any:
    """The same schema, refusing fields that it does not name: ours are all written down."""
    if isinstance(schema, list):
        return [strictly(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {"additionalProperties": False} if "required" in schema else {}
    return {key: strictly(part) for key, part in schema.items()} | closed


@pytest.fixture(autouse=True)
def emitted_lines_keep_their_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a command of any test writes as JSON is held against its published schema."""
    emit = Console.emit

    def check_and_emit(console: Console, document: Mapping[str, Any]) -> None:
        line = json.loads(to_json(document))
        jsonschema.validate(line, strictly(json_schema(line["schema"])))
        emit(console, document)

    monkeypatch.setattr(Console, "emit", check_and_emit)


@pytest.fixture(autouse=True)
def package_logger() -> Iterator[None]:
    """Put the package's logger back as it was."""
    package = logging.getLogger("autodir")
    handlers, level = list(package.handlers), package.level
    yield
    package.handlers[:] = handlers
    package.setLevel(level)


@pytest.fixture
def restorer(monkeypatch: pytest.MonkeyPatch) -> type[FakeRestorer]:
    """The stand-in takes the place of the real restorer."""
    module = types.ModuleType("autodir.pipeline")
    module.Restorer = FakeRestorer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "autodir.pipeline", module)
    monkeypatch.setattr(FakeRestorer, "opened", [])
    return FakeRestorer


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run a command line in an empty folder and give its exit code."""
    from autodir.cli.app import run as run_arguments

    monkeypatch.chdir(tmp_path)
    return lambda *arguments: run_arguments([str(argument) for argument in arguments])


def save_photo(path: Path, level: int, size: tuple[int, int] = (12, 16)) -> Path:
    """Write a photo of about one gray level."""
    noise = torch.randint(0, 9, (*size, 3), generator=torch.Generator().manual_seed(level))
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray((noise.numpy() + level).astype(np.uint8)).save(path)
    return path


@pytest.fixture
def dark(tmp_path: Path) -> Path:
    """A photo that the stand-in repairs."""
    return save_photo(tmp_path / "dark.png", 40)


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """A photo in which the stand-in finds nothing."""
    return save_photo(tmp_path / "good.jpg", 160)
