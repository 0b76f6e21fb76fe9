"""Kill runs of ``autodir fix`` at random moments, resume each, and compare with one left alone.

A program of its own, because a run is a fork of it: torch is imported and the model is loaded once.
Prints one JSON object: the number of kills, what differs in the end, and what was done twice.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np
import PIL.Image
import torch

from autodir.batch.ledger import LEDGER_NAME
from autodir.cli.app import run
from autodir.pipeline import Restorer

State = dict[str, tuple[int, int, bytes]]


def make_photos(folder: Path, count: int) -> None:
    generator = np.random.default_rng(0)
    for number in range(count):
        path = folder / ("deep" if number % 3 == 0 else ".") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        samples = generator.integers(0, 255, (20, 24, 3), dtype=np.uint8)
        PIL.Image.fromarray(samples).save(path)
    shutil.copy(folder / "1.png", folder / "twin.png")


def begin(arguments: list[str]) -> int:
    """Fork a run; its process id."""
    pid = os.fork()
    if pid == 0:
        os._exit(run(arguments))
    return pid


def state(folder: Path) -> State:
    """Inode, time of change and content of each file, the ledger left out."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_file() and path.name != LEDGER_NAME:
            about = path.stat()
            name = str(path.relative_to(folder))
            found[name] = (about.st_ino, about.st_mtime_ns, path.read_bytes())
    return found


def contents(files: State) -> dict[str, bytes]:
    return {name: content for name, (_, _, content) in files.items()}


def main(model: str, place: str, kills: int, photos: int) -> None:
    for module in ("autodir.batch.stream", "autodir.cli.fixing"):
        importlib.import_module(module)  # so that no run spends its short life on that
    torch.set_num_threads(1)
    restorer = Restorer.from_pretrained(model, device="cpu", threads=1)
    Restorer.from_pretrained = lambda *arguments, **named: restorer  # type: ignore[assignment]
    chance, folder = random.Random(0), Path(place)
    make_photos(folder / "album", photos)

    def command(out: Path) -> list[str]:
        options = ["--recursive", "--max-steps", "1", "--quiet", "--resume"]
        return ["fix", str(folder / "album"), "-o", str(out), *options]

    started = time.monotonic()
    _, status = os.waitpid(begin(command(folder / "reference")), 0)
    seconds = time.monotonic() - started
    assert status == 0, status
    reference = contents(state(folder / "reference"))
    assert len(reference) == photos + 1
    killed, wrong, redone, rounds = 0, list[str](), list[str](), 0
    while killed < kills:
        rounds += 1
        out, before = folder / f"out{rounds}", State()
        while True:
            pid = begin(command(out))
            if killed < kills:
                time.sleep(chance.uniform(0, 0.4 * seconds))
                os.kill(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
            after = state(out)
            redone += [name for name in before if after.get(name) != before[name]]
            before = {name: file for name, file in after.items() if not name.endswith(".tmp")}
            if not os.WIFSIGNALED(status):
                break
            killed += 1
        if status != 0 or contents(after) != reference:
            wrong.append(f"round {rounds}: status {status}, {sorted(after)}")
    found = {"kills": killed, "rounds": rounds, "wrong": wrong, "redone": redone}
    sys.stdout.write(json.dumps(found | {"seconds": seconds}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
