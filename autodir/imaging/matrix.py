"""Color spaces of one curve for each channel and one matrix: in any depth, which LittleCMS lacks.

Apart from `imaging.profiles`, which chooses: Pillow's LittleCMS takes 8 bits a sample only, and a
PNG may state gamma and primaries without any profile.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_STEPS = 65536
_GRID = np.linspace(0, 1, _STEPS)
_ROWS = 128
"""Rows converted at a time, since the work is done in float64."""

_NEARLY = 2 / 255
"""How far a space may differ from sRGB and still be taken for it."""

_D50 = np.array([0.9642, 1.0, 0.8249])
# Bradford's cone responses, as in ICC.1:2022, Annex E
_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)

PRIMARIES: dict[int, tuple[float, ...]] = {
    1: (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06),
    9: (0.3127, 0.3290, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    12: (0.3127, 0.3290, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
}
"""White, red, green, blue as x, y, by their code in ITU-T H.273: BT.709, BT.2020, Display P3."""


def _decode_srgb(x: Array) -> Array:
    return np.where(x <= 0.04045, x / 12.92, ((np.maximum(x, 0.04045) + 0.055) / 1.055) ** 2.4)


def _encode_srgb(x: Array) -> Array:
    high = 1.055 * np.maximum(x, 0.0031308) ** (1 / 2.4) - 0.055
    return np.where(x <= 0.0031308, x * 12.92, high)


def _to_xyz(chromaticities: tuple[float, ...]) -> Array:
    """The matrix from linear RGB to XYZ at D50, of white, red, green and blue as x, y.

    Raises:
        ValueError: they span no color space.
    """
    points = np.array(chromaticities, float).reshape(4, 2)
    if not (points[:, 1] > 0).all():
        raise ValueError(f"no primaries: {chromaticities}")
    xyz = np.stack([points[:, 0], points[:, 1], 1 - points.sum(axis=1)]) / points[:, 1]
    white, primaries = xyz[:, 0], xyz[:, 1:]
    if abs(np.linalg.det(primaries)) < 1e-6:
        raise ValueError(f"primaries on one line: {chromaticities}")
    cones = (_BRADFORD @ _D50) / (_BRADFORD @ white)
    adapted = np.linalg.inv(_BRADFORD) @ np.diag(cones) @ _BRADFORD
    matrix: Array = adapted @ (primaries * np.linalg.solve(primaries, white))
    return matrix


_SRGB_TO_XYZ = _to_xyz(PRIMARIES[1])


@dataclass(frozen=True, eq=False, kw_only=True)
class MatrixSpace:
    """A color space of 1 (gray) or 3 channels.

    Attributes:
        curves: one (65536,) table for each channel, from equal steps of the sample to linear light.
        to_linear_srgb: (3, 3), or None for gray.
    """

    curves: tuple[Array, ...]
    to_linear_srgb: Array | None

    def to_srgb(self, native: Array) -> Array:
        """Convert (H, W, 1 or 3) uint8, uint16 or float32 in [0, 1] to sRGB of the same kind."""
        return _by_rows(lambda rows: _stored(self._decode(rows), native.dtype), native)

    def from_srgb(self, result: Array, native: Array) -> Array:
        """Convert sRGB back, and add what the conversion of ``native`` to sRGB had cut off.

        Args:
            result: sRGB, of the shape and kind of ``native``.
            native: the samples before the repair.

        Returns:
            Of the shape and kind of ``native``, and equal to it where the result is untouched.
        """

        def back(changed: Array, before: Array) -> Array:
            was = _stored(self._decode(before), native.dtype)
            difference = self._encode(_unit(changed)) - self._encode(_unit(was))
            return _stored(_unit(before) + difference, native.dtype)

        return _by_rows(back, result, native)

    @property
    def is_srgb(self) -> bool:
        """Whether the space means sRGB: judged by colors."""
        steps = np.linspace(0, 1, 6)
        probe = np.stack(np.meshgrid(*[steps] * len(self.curves)), axis=-1)
        probe = probe.reshape(1, -1, len(self.curves))
        return bool((np.abs(self._decode(probe) - probe) <= _NEARLY).all())

    def _decode(self, native: Array) -> Array:
        """Any samples → sRGB in [0, 1], float64."""
        if np.issubdtype(native.dtype, np.integer):
            place = native.astype(np.intp) * ((_STEPS - 1) // np.iinfo(native.dtype).max)
            channels = [curve[place[..., i]] for i, curve in enumerate(self.curves)]
        else:
            channels = [np.interp(native[..., i], _GRID, c) for i, c in enumerate(self.curves)]
        linear = np.stack(channels, axis=-1)
        if self.to_linear_srgb is not None:
            linear = linear @ self.to_linear_srgb.T
        return _encode_srgb(linear.clip(0, 1))

    def _encode(self, srgb: Array) -> Array:
        """SRGB in [0, 1] → the space's own samples in [0, 1], float64."""
        linear = _decode_srgb(srgb)
        if self.to_linear_srgb is not None:
            linear = linear @ np.linalg.inv(self.to_linear_srgb).T
        linear = linear.clip(0, 1)
        channels = [np.interp(linear[..., i], c, _GRID) for i, c in enumerate(self.curves)]
        return np.stack(channels, axis=-1)


def _unit(samples: Array) -> Array:
    """Samples as float64 in [0, 1]."""
    if np.issubdtype(samples.dtype, np.integer):
        return samples / float(np.iinfo(samples.dtype).max)
    return samples.astype(np.float64)


def _stored(unit: Array, dtype: np.dtype[Any]) -> Array:
    """Floats in [0, 1] as samples of a kind."""
    unit = unit.clip(0, 1)
    if np.issubdtype(dtype, np.integer):
        unit = np.rint(unit * float(np.iinfo(dtype).max))
    stored: Array = unit.astype(dtype)
    return stored


def _by_rows(convert: Callable[..., Array], *pictures: Array) -> Array:
    """Convert some rows at a time."""
    result = np.empty_like(pictures[0])
    for top in range(0, len(result), _ROWS):
        rows = slice(top, top + _ROWS)
        result[rows] = convert(*(picture[rows] for picture in pictures))
    return result


def of_chromaticities(
    chromaticities: tuple[float, ...] | None, gamma: float | None
) -> MatrixSpace | None:
    """The space that numbers describe.

    Args:
        chromaticities: white, red, green, blue as x, y; None for sRGB's.
        gamma: linear light is the sample to this power; None for sRGB's curve.

    Returns:
        The space, or None where the numbers describe none.
    """
    if gamma is not None and not 0.1 <= gamma <= 10:
        return None
    curve = _decode_srgb(_GRID) if gamma is None else _GRID**gamma
    try:
        to_xyz = _SRGB_TO_XYZ if chromaticities is None else _to_xyz(chromaticities)
    except (ValueError, np.linalg.LinAlgError):
        return None
    return _space((curve,) * 3, to_xyz)


def _space(curves: tuple[Array, ...], to_xyz: Array) -> MatrixSpace | None:
    """The space of three curves and a matrix, if that can be inverted."""
    if not np.isfinite(to_xyz).all() or abs(np.linalg.det(to_xyz)) < 1e-6:
        return None
    matrix = np.linalg.solve(_SRGB_TO_XYZ, to_xyz)
    return MatrixSpace(curves=curves, to_linear_srgb=matrix)


@lru_cache(maxsize=8)
def of_icc(icc: bytes) -> MatrixSpace | None:
    """The space of an ICC profile made of curves and a matrix, or of one curve for gray.

    Returns:
        The space; None for a profile of another kind, tables of colors included, or a broken one.
    """
    try:
        (count,) = struct.unpack_from(">I", icc, 128)
        entries = [struct.unpack_from(">4sII", icc, 132 + 12 * i) for i in range(min(count, 100))]
        tags = {name: icc[offset : offset + size] for name, offset, size in entries}
        if icc[20:24] != b"XYZ " or b"A2B0" in tags:
            return None
        if icc[16:20] == b"GRAY":
            return MatrixSpace(curves=(_curve(tags[b"kTRC"]),), to_linear_srgb=None)
        curves = tuple(_curve(tags[name]) for name in (b"rTRC", b"gTRC", b"bTRC"))
        columns = [struct.unpack_from(">3i", tags[c], 8) for c in (b"rXYZ", b"gXYZ", b"bXYZ")]
        return _space(curves, np.array(columns, float).T / 65536)
    except (struct.error, KeyError, ValueError, ArithmeticError):
        return None


def _curve(tag: bytes) -> Array:
    """The table of a curve tag (ICC.1:2022, 10.6 and 10.18).

    Raises:
        struct.error, ValueError: the tag is malformed, or the curve goes down somewhere.
    """
    if tag[:4] == b"para":
        (kind,) = struct.unpack_from(">H", tag, 8)
        counts = {0: 1, 1: 3, 2: 4, 3: 5, 4: 7}
        if kind not in counts:
            raise ValueError(f"curve of type {kind}")
        stated = np.array(struct.unpack_from(f">{counts[kind]}i", tag, 12)) / 65536
        table = _parametric(kind, *np.pad(stated, (0, 7 - len(stated))))
    else:
        (count,) = struct.unpack_from(">I", tag, 8)
        if count <= 1:
            power = struct.unpack_from(">H", tag, 12)[0] / 256 if count else 1.0
            table = _GRID**power
        else:
            stored = np.frombuffer(tag, ">u2", count, 12) / 65535
            table = np.interp(_GRID, np.linspace(0, 1, count), stored)
    if not np.isfinite(table).all() or (np.diff(table) < 0).any() or table[-1] <= table[0]:
        raise ValueError("a curve that cannot be inverted")
    return table.clip(0, 1)


def _parametric(
    kind: int, g: float, a: float, b: float, c: float, d: float, e: float, f: float
) -> Array:
    """ICC.1:2022, Table 70, on the grid."""
    if kind == 0:
        return _GRID**g
    if kind < 3:  # types 1 and 2 begin where the base is 0, with the constant c
        d, e, f, c = (-b / a if a else 0.0), c, c, 0.0
    power = np.maximum(a * _GRID + b, 0) ** g + e
    return np.where(d <= _GRID, power, c * _GRID + f)
