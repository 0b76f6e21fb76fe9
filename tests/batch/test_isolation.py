"""Limits before decoding, and decoders in a process of their own that may crash and hang."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import PIL.Image
import pytest
import torch

from autodir.batch.child import Child
from autodir.batch.isolation import Decoder
from autodir.errors import ImageError
from autodir.imaging.io import read

LIMIT = 10_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    PIL.Image.linear_gradient("L").resize((12, 9)).save(path)
    return path


def test_without_isolation_the_limits_hold_too(path: Path) -> None:
    decoder = Decoder(max_bytes=path.stat().st_size)
    assert decoder.read(path, LIMIT).size == (9, 12)
    with pytest.raises(ImageError, match="megapixels"):
        decoder.read(path, 10)
    with pytest.raises(ImageError, match="more than the limit"):
        Decoder(max_bytes=20).read(path, LIMIT)
    decoder.close()


@pytest.fixture
def decoder(serving: ModuleType) -> Iterator[Decoder]:
    decoder = Decoder(isolate=True, timeout=30)
    assert decoder._child is not None
    decoder._child = Child(serving.serve_photos)
    yield decoder
    decoder.close()


def test_a_decoder_that_crashes_or_hangs_is_an_image_error_and_the_next_file_is_read(
    decoder: Decoder, path: Path
) -> None:
    pixels = read(path).pixels
    photo = decoder.read(path, LIMIT)
    assert (photo.metadata.path, photo.pixels.tolist()) == (path, pixels.tolist())
    with pytest.raises(ImageError, match="not an image"):
        decoder.read(b"no image", LIMIT)
    with pytest.raises(ImageError, match="megapixels") as caught:
        decoder.read(path, 10)
    assert "--max-pixels" in caught.value.hint
    with pytest.raises(ImageError, match=r"crashed \(it ended by SIGSEGV\)"):
        decoder.read(b"segv", LIMIT)
    assert torch.equal(decoder.read(path.read_bytes(), LIMIT).pixels, pixels)
    decoder._timeout = 0.2
    with pytest.raises(ImageError, match=r"longer than 0\.2 s") as caught:
        decoder.read(b"wait", LIMIT)
    assert "--decode-timeout" in caught.value.hint
