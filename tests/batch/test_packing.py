"""Photos that are packed and unpacked are the same to the last bit, and nothing else is packed."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageCms
import pytest
import torch

from autodir.batch.packing import pack, unpack
from autodir.errors import ContractError
from autodir.imaging.io import read


def encoded(mode: str, format: str, **options: Any) -> bytes:
    generator = np.random.default_rng(0)
    shape = (9, 12) if mode in ("L", "I;16") else (9, 12, len(mode))
    kind = np.uint16 if mode == "I;16" else np.uint8
    samples = generator.integers(0, np.iinfo(kind).max, shape, kind)
    file = io.BytesIO()
    PIL.Image.fromarray(samples).convert(mode).save(file, format, **options)
    return file.getvalue()


def inks() -> bytes:
    samples = np.random.default_rng(0).integers(0, 255, (9, 12, 4), np.uint8)
    file = io.BytesIO()
    PIL.Image.frombytes("CMYK", (12, 9), samples.tobytes()).save(file, "TIFF")
    return file.getvalue()


def profile() -> bytes:
    return PIL.ImageCms.ImageCmsProfile(PIL.ImageCms.createProfile("sRGB")).tobytes()


FILES = {
    "gray": lambda: encoded("L", "PNG"),
    "deep gray": lambda: encoded("I;16", "PNG"),
    "alpha": lambda: encoded("RGBA", "PNG", dpi=(72, 144)),
    "jpeg": lambda: encoded("RGB", "JPEG", quality=80, icc_profile=profile(), xmp=b"<x/>"),
    "inks": inks,
    "lossless": lambda: encoded("RGB", "WEBP", lossless=True),
}


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and bool(np.array_equal(a, b))
    if dataclasses.is_dataclass(a):
        names = [spec.name for spec in dataclasses.fields(a)]
        return type(a) is type(b) and all(same(getattr(a, n), getattr(b, n)) for n in names)
    return type(a) is type(b) and bool(a == b)


@pytest.mark.parametrize("kind", FILES)
def test_a_photo_that_is_packed_comes_out_equal(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "photo"
    path.write_bytes(FILES[kind]())
    photo = read(path)
    assert same(unpack(pack(photo)), photo)


def test_plain_values_come_out_equal() -> None:
    value = ("a", [1, 2.5, None, True], {1: b"\0", "b": Path("c")}, (), np.arange(3), b"")
    assert same(unpack(pack(value))[4], value[4])
    assert [unpack(pack(entry)) for entry in value[:4]] == list(value[:4])
    assert unpack(pack(np.float64(0.5))) == 0.5


def test_what_is_packed_is_no_pickle() -> None:
    with np.load(io.BytesIO(pack(read(FILES["alpha"]()))), allow_pickle=False) as file:
        assert all(file[name].dtype != object for name in file.files)


def test_other_things_are_not_packed() -> None:
    with pytest.raises(ContractError, match="set"):
        pack({"a": {1}})
