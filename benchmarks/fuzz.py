"""Damaged photos through the whole path of a file: read, encode, write, read again.

Every file is made from a seed, damaged by its number, and handed to a worker process; the parent
counts workers that die or hang, and the worker whatever is neither a photo nor an `ImageError`.
Time is the processor's, so that a busy machine makes no hangs: the system ends a worker that takes
too much of it (POSIX only).
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import io
import json
import queue
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np
import PIL.Image
from numpy.typing import NDArray
from PIL import TiffImagePlugin

from autodir.errors import AutodirError, ImageError, MissingExtraError
from autodir.evaluation.provenance import circumstances, peak_memory
from autodir.imaging import heif
from autodir.imaging.files import TEMPORARY_PREFIX
from autodir.imaging.io import encode, read, write_atomic
from autodir.records import ImageMetadata

RESULTS = Path(__file__).resolve().parent / "results"
PATIENCE = 10.0  # seconds of the processor after which a file counts as a hang
_SHARE = 5000  # files that one worker is given, unless it ends before
_ASLEEP = 60.0
"""A worker that says nothing for so many times `PATIENCE`, by the clock, waits for ever."""

MAX_PIXELS = 4_000_000
GOOD = ("refused", "restored")
"""What may become of a file; all other outcomes are failures."""

_OUT_OF_TIME = (-signal.SIGPROF, -signal.SIGKILL)
_EXTREMES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0xFFFFFFFF)
_HEADER = 96


def _picture() -> NDArray[Any]:
    """uint8 (24, 20, 4): gradients with noise, so that every decoder has work to do."""
    rows, columns = np.mgrid[0:24, 0:20]
    smooth = np.stack([rows * 9, columns * 11, rows * columns, 255 - rows * 10], axis=-1) % 256
    noise = np.random.default_rng(0).integers(0, 16, smooth.shape)
    return (smooth // 2 + noise).astype(np.uint8)


def _by_pillow(image: PIL.Image.Image, kind: str, options: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    others = [other.copy() for other in options.get("append_images", ())]
    # copies, since saving leaves traces in an image
    image.copy().save(file, kind, **{**options, "append_images": others})
    return file.getvalue()


def _by_opencv(suffix: str, samples: NDArray[Any], *options: int) -> bytes:
    return bytes(cv2.imencode(suffix, samples, options)[1])


def raw_photo(height: int = 64, width: int = 64) -> bytes:
    """A small DNG: 16 bits of a sensor with red, green and blue in a Bayer pattern."""
    sensor = np.random.default_rng(1).integers(0, 16000, (height, width)).astype("<u2").tobytes()
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    values: dict[int, tuple[int, Any]] = {  # tag → type, value
        254: (4, 0), 256: (4, width), 257: (4, height), 258: (3, 16), 259: (3, 1), 262: (3, 32803),
        271: (2, "Maker"), 272: (2, "Camera"), 273: (4, 0), 274: (3, 1), 277: (3, 1),
        278: (4, height), 279: (4, len(sensor)), 284: (3, 1), 33421: (3, (2, 2)),
        33422: (1, bytes([0, 1, 1, 2])), 50706: (1, bytes([1, 4, 0, 0])), 50708: (2, "Camera"),
        50714: (4, 0), 50717: (4, 16000), 50778: (3, 21),
        50721: (10, (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)),
        50728: (5, (0.5, 1.0, 0.6)),
    }  # fmt: skip
    for tag, (kind, value) in values.items():
        tags.tagtype[tag] = kind
        tags[tag] = value
    file = io.BytesIO()
    tags.save(file)
    return file.getvalue() + sensor


@cache
def corpus() -> dict[str, bytes]:
    """Whole files by name: every container in every kind of samples that it can hold here."""
    rgba = _picture()
    picture = PIL.Image.fromarray(rgba)
    rgb = picture.convert("RGB")
    second = PIL.Image.fromarray(255 - rgba[..., :3])
    exif = PIL.Image.Exif()
    exif[0x0112], exif[271] = 6, "Maker"
    exif.get_ifd(0x8769)[0x829A] = 0.01
    words = {"exif": exif.tobytes(), "xmp": b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"}
    more = {"save_all": True, "append_images": [second]}
    modes = {m: rgb.convert(m) for m in ("1", "L", "P", "CMYK", "RGB")}
    modes |= {"LA": picture.convert("LA"), "RGBA": picture}
    modes["I;16"] = PIL.Image.fromarray(rgba[..., 0].astype(np.uint16) * 257)
    kinds: dict[str, tuple[str, dict[str, Any]]] = {
        "JPEG": ("L RGB CMYK", words), "PNG": ("1 L LA P RGB RGBA I;16", {"exif": words["exif"]}),
        "TIFF": ("1 L LA P RGB RGBA CMYK I;16", {}), "WEBP": ("RGB RGBA", words),
        "AVIF": ("RGB RGBA", words), "GIF": ("1 L P RGB", {}), "BMP": ("1 L P RGB RGBA", {}),
        "PPM": ("1 L RGB I;16", {}), "TGA": ("L LA P RGB RGBA", {"compression": "tga_rle"}),
        "JPEG2000": ("L LA RGB RGBA I;16", {}),
    }  # fmt: skip
    files = {
        f"{kind}-{mode}": _by_pillow(modes[mode], kind, options)
        for kind, (names, options) in kinds.items()
        for mode in names.split()
    }
    files |= {
        "JPEG-progressive": _by_pillow(rgb, "JPEG", {"progressive": True, "comment": b"words"}),
        "MPO": _by_pillow(rgb, "MPO", more),
        "WEBP-lossless": _by_pillow(picture, "WEBP", {"lossless": True}),
        "PNG-key": _by_pillow(rgb, "PNG", {"transparency": (1, 2, 3)}),
        **{f"{kind}-many": _by_pillow(rgb, kind, more) for kind in ("PNG", "GIF", "WEBP", "TIFF")},
        **{
            f"TIFF-{name}": _by_pillow(modes[mode], "TIFF", {"compression": name})
            for name, mode in (("tiff_lzw", "RGB"), ("group4", "1"), ("jpeg", "RGB"),
                               ("packbits", "L"), ("tiff_adobe_deflate", "RGBA"))
        },
        "PPM-text": b"P3\n2 2\n255\n" + b"1 2 3 " * 4,
    }  # fmt: skip
    wide = rgba.astype(np.uint16) * 257
    unit = rgba.astype(np.float32) / 255
    for suffix in (".png", ".tiff"):
        for channels in (3, 4):
            files[f"{suffix}-deep-{channels}"] = _by_opencv(suffix, wide[..., :channels])
    for code, name in ((1, "plain"), (5, "lzw"), (8, "deflate")):
        for channels in (1, 3):
            samples = np.ascontiguousarray(unit[..., :channels])
            options = (cv2.IMWRITE_TIFF_COMPRESSION, code)
            files[f"TIFF-float-{name}-{channels}"] = _by_opencv(".tiff", samples, *options)
    files["PPM-deep"] = _by_opencv(".ppm", wide[..., :3])
    files["RAW"] = raw_photo()
    with contextlib.suppress(MissingExtraError):
        for name, stored in (("HEIF", rgba[..., :3]), ("HEIF-deep", wide)):
            files[name] = heif.encode(stored, ImageMetadata(), 10, None)
    return files


# --- damage --------------------------------------------------------------------------------------


def _flip(data: bytearray, rng: np.random.Generator) -> None:
    for at in rng.integers(0, len(data), rng.integers(1, 17)):
        data[at] ^= 1 << int(rng.integers(0, 8))


def _truncate(data: bytearray, rng: np.random.Generator) -> None:
    del data[int(rng.integers(1, len(data))) :]


def _lie(data: bytearray, rng: np.random.Generator) -> None:
    """Extreme numbers in the header, where sizes, counts and depths stand."""
    for _ in range(int(rng.integers(1, 4))):
        width = int(rng.choice([1, 2, 4]))
        at = int(rng.integers(0, max(1, min(len(data), _HEADER) - width)))
        number = int(rng.choice(_EXTREMES)) & (256**width - 1)
        data[at : at + width] = number.to_bytes(width, "big" if rng.random() < 0.5 else "little")


def _overwrite(data: bytearray, rng: np.random.Generator) -> None:
    at, length = int(rng.integers(0, len(data))), int(rng.integers(1, 33))
    data[at : at + length] = rng.bytes(min(length, len(data) - at))


def _repeat(data: bytearray, rng: np.random.Generator) -> None:
    """A part stands twice, or is gone."""
    start, end = sorted(int(at) for at in rng.integers(0, len(data), 2))
    data[start:end] = bytes(data[start:end]) * int(rng.choice([0, 2]))


def _join(data: bytearray, rng: np.random.Generator) -> None:
    """The end of another file follows."""
    other = list(corpus().values())[int(rng.integers(0, len(corpus())))]
    data[int(rng.integers(0, len(data))) :] = other[int(rng.integers(0, len(other))) :]


DAMAGES: tuple[Callable[[bytearray, np.random.Generator], None], ...] = (
    _flip, _flip, _lie, _lie, _lie, _truncate, _overwrite, _repeat, _join,
)  # fmt: skip


def _with_checks(data: bytes) -> bytes:
    """A PNG whose chunks have right check sums, so that the damage gets past them."""
    parts, at = [data[:8]], 8
    while at + 12 <= len(data):
        size = min(int.from_bytes(data[at : at + 4], "big"), len(data) - at - 12)
        body = data[at + 4 : at + 8 + size]
        parts.append(struct.pack(">I", size) + body + struct.pack(">I", zlib.crc32(body)))
        at += 12 + size
    return b"".join([*parts, data[at:]])


def damaged(seed: int, index: int) -> tuple[str, bytes]:
    """Name of the whole file, and the damaged one: the same for the same two numbers."""
    names = list(corpus())
    name = names[index % len(names)]
    rng = np.random.default_rng([seed, index])
    data = bytearray(corpus()[name])
    DAMAGES[int(rng.integers(0, len(DAMAGES)))](data, rng)
    if data[:4] == b"\x89PNG" and rng.random() < 0.7:
        return name, _with_checks(bytes(data))
    return name, bytes(data)


# --- one file ------------------------------------------------------------------------------------


def judge(data: bytes, folder: Path) -> tuple[str, str]:
    """Send a file through the whole path.

    Returns:
        What became of it, and the reason: "refused" or "restored" is as it should be; "escaped" is
        an exception of another family, "partial" a result that is not whole or left unfinished.
    """
    target = folder / "result"
    target.unlink(missing_ok=True)
    try:
        photo = read(data, MAX_PIXELS)
        try:
            write_atomic(encode(photo), target)
        except ImageError as error:  # such as transparency in a BMP
            outcome = ("refused", error.message)
        else:
            again = read(target, MAX_PIXELS)
            whole = again.size == photo.size and again.metadata.format == (
                photo.metadata.format or "PNG"
            )
            outcome = ("restored", "") if whole else ("partial", f"{again.size} {photo.size}")
    except AutodirError as error:
        outcome = ("refused", error.message)
        if target.exists():
            outcome = ("partial", error.message)
    except Exception as error:  # what fuzzing is there to find
        outcome = ("escaped", f"{type(error).__name__}: {error}")
    left = [path.name for path in folder.iterdir() if path.name.startswith(TEMPORARY_PREFIX)]
    return ("partial", f"left {left[0]}") if left else outcome


def work(seed: int, indices: range, patience: float, file: IO[str]) -> None:
    """What a worker does: an empty object when it is ready, then one line of JSON for each file."""
    corpus()
    file.write("{}\n")
    file.flush()
    with tempfile.TemporaryDirectory() as folder:
        for index in indices:
            name, data = damaged(seed, index)
            # Not caught, the signal ends the process, in the middle of a decoder too.
            signal.setitimer(signal.ITIMER_PROF, patience)
            started = time.process_time()
            outcome, why = judge(data, Path(folder))
            signal.setitimer(signal.ITIMER_PROF, 0)
            line = {"index": index, "name": name, "outcome": outcome, "why": why[:200]}
            line["seconds"] = time.process_time() - started
            line["peak_memory_bytes"] = peak_memory()
            file.write(json.dumps(line) + "\n")
            file.flush()


# --- all files -----------------------------------------------------------------------------------


def watch(
    command: Callable[[int, int], Sequence[str]], start: int, stop: int, patience: float
) -> Iterator[dict[str, Any]]:
    """Run workers over ``start`` to ``stop``, a new one where one has died or hung.

    Args:
        command: the command line of a worker, from the first and the last number.
        start, stop: numbers of files.
        patience: seconds of the processor that the worker gives a file.

    Yields:
        One dictionary for each file; "died" and "hung" are outcomes too.
    """
    while start < stop:
        with subprocess.Popen(
            command(start, stop), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as worker:
            lines: queue.Queue[str] = queue.Queue()
            reader = threading.Thread(target=_forward, args=(worker.stdout, lines), daemon=True)
            reader.start()
            is_ready = False
            while start < stop:
                try:
                    line = lines.get(timeout=_ASLEEP * patience)
                except queue.Empty:
                    worker.kill()
                    line = ""
                if not line and not is_ready:
                    raise RuntimeError(f"the worker does not start: {worker.args!r}")
                if not line:
                    code = worker.wait()
                    outcome = "hung" if code in _OUT_OF_TIME else "died"
                    yield {"index": start, "outcome": outcome, "why": f"exit {code}"}
                    start += 1
                    break
                if found := json.loads(line):
                    yield found
                    start += 1
                is_ready = True


def _forward(source: IO[str], lines: queue.Queue[str]) -> None:
    """Hand lines over, and "" at the end."""
    for line in source:
        lines.put(line)
    lines.put("")


def tabulate(files: Sequence[dict[str, Any]], seed: int) -> dict[str, Any]:
    """Rows by kind of file; what failed stands below with the numbers that make it again."""
    names = list(corpus())
    for one in files:
        one.setdefault("name", names[one["index"] % len(names)])
    outcomes = sorted({one["outcome"] for one in files} | set(GOOD))
    counts = {name: Counter(o["outcome"] for o in files if o["name"] == name) for name in names}
    rows = [[name, *(str(count[o]) for o in outcomes)] for name, count in counts.items() if count]
    return {
        "columns": ["file", *outcomes],
        "rows": rows,
        "files": len(files),
        "seed": seed,
        "outcomes": dict(Counter(one["outcome"] for one in files)),
        "slowest_seconds": max((one.get("seconds", 0.0) for one in files), default=0.0),
        "peak_memory_bytes": max((one.get("peak_memory_bytes") or 0 for one in files), default=0),
        "failures": [one for one in files if one["outcome"] not in GOOD],
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Damage files and count; exit 1 where one did anything but succeed or be refused."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--start", type=int, default=0, help="number of the first file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--patience", type=float, default=PATIENCE, help="seconds for a file")
    parser.add_argument("--jobs", type=int, default=1, help="workers at a time")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    stop = options.start + options.files
    if options.worker:
        work(options.seed, range(options.start, stop), options.patience, sys.stdout)
        return 0

    def command(start: int, end: int) -> list[str]:
        given = {"start": start, "files": end - start, "seed": options.seed}
        given["patience"] = options.patience
        flags = [f"--{name}={value}" for name, value in given.items()]
        return [sys.executable, __file__, "--worker", *flags]

    from autodir.evaluation.suite import SCHEMA, result_path, write_result  # workers need none

    def share(first: int) -> list[dict[str, Any]]:
        found = []
        for one in watch(command, first, min(first + _SHARE, stop), options.patience):
            found.append(one)
            if one["outcome"] not in GOOD:
                print(json.dumps(one), file=sys.stderr, flush=True)
        print(f"{first} to {first + len(found)} done", file=sys.stderr, flush=True)
        return found

    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        shares = pool.map(share, range(options.start, stop, _SHARE))
        files = [one for found in shares for one in found]
    result = {
        "schema": SCHEMA,
        "suite": "fuzz",
        "title": "Damaged files",
        "kind": "speed",
        "circumstances": circumstances(),
        "notes": ["Each file is read, encoded, written and read again in a worker process."],
        **tabulate(files, options.seed),
    }
    write_result(result, result_path(options.out, result))
    return int(bool(result["failures"]))


if __name__ == "__main__":
    sys.exit(main())
