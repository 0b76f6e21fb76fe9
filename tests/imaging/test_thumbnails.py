"""Thumbnails: small, of the right shape, and of every kind of photo."""

from __future__ import annotations

import io

import numpy as np
import PIL.Image
import pytest
import torch

from autodir.imaging.photo import Photo
from autodir.imaging.thumbnails import heat_map, thumbnail


@pytest.mark.parametrize(
    ("size", "expected"),
    [((300, 600), (80, 160)), ((600, 300), (160, 80)), ((40, 60), (40, 60)), ((1, 4000), (1, 160))],
)
def test_the_longer_side_is_bounded(size: tuple[int, int], expected: tuple[int, int]) -> None:
    data, shape = thumbnail(Photo(pixels=torch.rand(3, *size)), 160)
    with PIL.Image.open(io.BytesIO(data)) as image:
        assert (image.format, (image.height, image.width)) == ("WEBP", expected)
    assert shape == expected
    assert len(data) < 40_000


def test_colors_and_transparency_survive() -> None:
    pixels = torch.tensor([1.0, 0.5, 0.0])[:, None, None].expand(3, 32, 32)
    alpha = torch.zeros(32, 32)
    alpha[:, :16] = 1
    data, _ = thumbnail(Photo(pixels=pixels, alpha=alpha), 32)
    with PIL.Image.open(io.BytesIO(data)) as image:
        samples = np.asarray(image.convert("RGBA")).astype(int)
    assert np.abs(samples[16, 8] - [255, 128, 0, 255]).max() <= 12
    assert samples[16, 30, 3] == 0


def test_values_outside_the_range_do_not_wrap_around() -> None:
    data, _ = thumbnail(Photo(pixels=torch.full((3, 8, 8), 1.4)), 8)
    with PIL.Image.open(io.BytesIO(data)) as image:
        assert np.asarray(image.convert("RGB")).min() >= 250


def test_a_heat_map_can_be_read_back() -> None:
    values = torch.linspace(0, 1, 90).view(9, 10)
    with PIL.Image.open(io.BytesIO(heat_map(values))) as image:
        assert image.size == (10, 9)
        read = np.asarray(image).astype(float).mean(-1) / 255
    assert np.abs(read - values.numpy()).max() < 0.003
