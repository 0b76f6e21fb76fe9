"""Photos and real pairs for training, kept as bytes in memory and cropped in batches.

Apart from the parts because all of them draw from the same two pools, with the same held-out share.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image as PillowImage
from torch import Tensor
from torch.nn import functional as F

from autodir.errors import ConfigError, ImageError
from autodir.training.replay import turned

logger = logging.getLogger(__name__)

SUFFIXES = (".webp", ".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
HELD_OUT = 0.05
"""Share of the photos that no stage trains on: calibration and validation use them."""
SHRUNK = 0.7
"""Share of the crops taken from a shrunk photo."""
SCALE = (0.5, 1.0)
"""How much those are shrunk, where a stage does not say otherwise."""

PAIR_FOLDERS = {
    "noise": "noise",
    "blur": "blur",
    "rain": "rain",
    "lowlight": "underexposure",
    "haze": "haze",
    "sr_real": "low_resolution",
    "raindrop": "raindrop",
    "compression": "compression",
}
"""Folder of a pairs directory → degradation key."""


def load_photo(path: Path) -> Tensor:
    """Read one photo as uint8 (3, H, W); `ImageError` names the file that cannot be read."""
    try:
        with PillowImage.open(path) as photo:
            array = np.asarray(photo.convert("RGB"))
    except (OSError, ValueError, SyntaxError, PillowImage.DecompressionBombError) as error:
        raise ImageError(
            f"{path} cannot be read: {error}", "remove it from the training folder"
        ) from error
    return torch.from_numpy(array.copy()).permute(2, 0, 1).contiguous()


def is_held_out(path: Path, share: float = HELD_OUT) -> bool:
    """Whether a photo belongs to the held-out share; its name decides, so that all stages agree."""
    digest = hashlib.sha256(path.stem.encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32 < share


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)


def _integer(high: int, generator: torch.Generator) -> int:
    return int(torch.randint(high, (), generator=generator))


def _turn(generator: torch.Generator, upright: bool) -> int:
    """A choice of `turned`; an upright photo is at most flipped from left to right."""
    choice = _integer(8, generator)
    return choice & 1 if upright else choice


class PhotoPool:
    """Clean photos in memory as uint8.

    Args:
        folder: searched recursively for images.
        held_out: take the held-out share instead of the training share.
        limit: at most so many photos, for quick runs.
    """

    def __init__(self, folder: Path, *, held_out: bool = False, limit: int | None = None) -> None:
        if not folder.is_dir():
            raise ConfigError(
                f"training folder {folder} does not exist", "--data names a folder of clean photos"
            )
        everything = _files(folder)
        files = [path for path in everything if is_held_out(path) == held_out]
        if not files:  # a handful of photos, all of them in the other share
            files = everything[:1] if held_out else everything
        if not files:
            raise ConfigError(
                f"no photos in {folder}", f"it needs files that end in {', '.join(SUFFIXES)}"
            )
        self.files = files[:limit]
        self.photos = [load_photo(path) for path in self.files]
        logger.info("%d photos from %s", len(self.photos), folder)

    def __len__(self) -> int:
        return len(self.photos)

    def crops(
        self,
        count: int,
        size: int,
        generator: torch.Generator,
        *,
        scale: tuple[float, float] = SCALE,
        upright: bool = False,
    ) -> Tensor:
        """Random square crops (count, 3, size, size) in [0, 1], turned and flipped.

        Args:
            scale: range of the antialiased shrinking before the crop: a shrunk photo is sharper and
                shows more of the scene. A photo too small for the drawn scale is shrunk less, or
                enlarged to fit.
            upright: only flip them from left to right.
        """
        return torch.stack([self._crop(size, generator, scale, upright) for _ in range(count)])

    def _crop(
        self, size: int, generator: torch.Generator, scale: tuple[float, float], upright: bool
    ) -> Tensor:
        photo = self.photos[_integer(len(self.photos), generator)]
        height, width = photo.shape[-2:]
        factor = scale[0] + (scale[1] - scale[0]) * float(torch.rand((), generator=generator))
        shrunk = float(torch.rand((), generator=generator)) < SHRUNK
        factor = max(factor, size / min(height, width)) if shrunk else 1.0
        source = min(height, width, max(1, round(size / factor)))
        top = _integer(height - source + 1, generator)
        left = _integer(width - source + 1, generator)
        crop = photo[:, top : top + source, left : left + source].float().div_(255)
        if source != size:
            crop = F.interpolate(crop[None], (size, size), mode="bicubic", antialias=True)[0]
            crop.clamp_(0, 1)
        return turned(crop, _turn(generator, upright))


@dataclass(frozen=True)
class Pair:
    """One real degraded photo and its clean partner, both uint8 (3, H, W)."""

    degraded: Tensor
    target: Tensor


class PairPool:
    """Real degraded/clean pairs by degradation key.

    Args:
        folder: holds the folders of `PAIR_FOLDERS`, each with input/ and target/; None: no pairs.
        held_out: take the held-out share instead of the training share.
    """

    def __init__(self, folder: Path | None, *, held_out: bool = False) -> None:
        self.pairs: dict[str, list[Pair]] = {}
        for name, key in PAIR_FOLDERS.items():
            for source in (
                _files(folder / name) if folder is not None and (folder / name).is_dir() else []
            ):
                if source.parent.name != "input" or is_held_out(source) != held_out:
                    continue
                target = source.parent.parent / "target" / source.name
                if target.exists():
                    pair = Pair(load_photo(source), load_photo(target))
                    if pair.degraded.shape == pair.target.shape:
                        self.pairs.setdefault(key, []).append(pair)
        logger.info("real pairs: %s", {key: len(pairs) for key, pairs in self.pairs.items()})

    @property
    def keys(self) -> tuple[str, ...]:
        """The degradations that have pairs."""
        return tuple(self.pairs)

    def crops(
        self,
        keys: Sequence[str],
        size: int,
        generator: torch.Generator,
        *,
        upright: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Aligned crops, one for each key: degraded and target, (N, 3, size, size) in [0, 1]."""
        drawn = (self._crop(key, size, generator, upright) for key in keys)
        degraded, target = zip(*drawn, strict=True)
        return torch.stack(degraded), torch.stack(target)

    def _crop(
        self, key: str, size: int, generator: torch.Generator, upright: bool
    ) -> tuple[Tensor, Tensor]:
        pairs = self.pairs[key]
        pair = pairs[_integer(len(pairs), generator)]
        both = torch.stack([pair.degraded, pair.target])
        height, width = both.shape[-2:]
        shorter = min(height, width)
        if shorter < size < 2 * shorter:  # mirrored: enlarged grain would be no grain
            beyond = (0, max(0, size - width), 0, max(0, size - height))
            both = F.pad(both.float(), beyond, mode="reflect")
        elif shorter < size:
            scale = size / shorter
            shape = (max(size, round(height * scale)), max(size, round(width * scale)))
            both = F.interpolate(both.float(), shape, mode="bicubic").clamp(0, 255).round()
        height, width = both.shape[-2:]
        top, left = _integer(height - size + 1, generator), _integer(width - size + 1, generator)
        both = both[:, :, top : top + size, left : left + size].float() / 255
        both = turned(both, _turn(generator, upright))
        return both[0], both[1]
