"""Blind image quality assessment: views of a photo against the prompts (AutoDIR §2).

Apart from CLIP, because here stand the views, the fusion of their features and the rule for
"nothing found".
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autodir.clip import Clip
from autodir.diagnosis import streaks
from autodir.diagnosis.appearance import measure
from autodir.diagnosis.blend import Blend
from autodir.diagnosis.calibration import Calibration
from autodir.diagnosis.locator import STATISTICS, Locator
from autodir.diagnosis.trial import Suspicion, Trial
from autodir.prompts import Taxonomy
from autodir.records import Diagnosis, Mixture, check_image

MAX_CROPS_PER_SIDE = 3
MIXED = 0.5
"""Presence from which a degradation beside the main one has a part in conditioning its repair."""

SURE = 8.0
"""Presence logit of the whole photo from which its parts are not asked as well."""
PART, LEAST_PART, LARGEST = 0.6, 160, 1600
"""Side of a part, as a share of the photo's; pixels below which a part says too little; longer side
of a photo above which parts are not asked: noise and blur of a pixel are seldom meant there."""


def native_crops(image: Tensor, size: int, per_side: int = MAX_CROPS_PER_SIDE) -> Tensor:
    """An even grid of native-resolution crops, where noise, JPEG blocks and small blur survive.

    Args:
        image: (B, 3, H, W); sides below ``size`` are mirrored (or repeated) up to it, never padded
            with black.
        size: side of a crop in pixels.
        per_side: at most so many crops along each side; fewer where they would overlap by more than
            half.

    Returns:
        (B, N, 3, size, size).
    """
    height, width = image.shape[-2:]
    below, right = max(0, size - height), max(0, size - width)
    if below or right:
        mode = "reflect" if below < height and right < width else "replicate"
        image = F.pad(image, (0, right, 0, below), mode=mode)
        height, width = image.shape[-2:]
    tops, lefts = _starts(height, size, per_side), _starts(width, size, per_side)
    crops = [image[..., top : top + size, left : left + size] for top in tops for left in lefts]
    return torch.stack(crops, dim=1)


def _starts(length: int, size: int, most: int) -> list[int]:
    count = min(most, max(1, round((length - size) / (size / 2)) + 1 if length > size else 1))
    if count == 1:
        return [(length - size) // 2]
    return [round(index * (length - size) / (count - 1)) for index in range(count)]


def parts(image: Tensor) -> list[Tensor]:
    """Two windows of a photo (B, 3, H, W), across from each other; none where they say too little.

    The blend learns from photos of 224 to 352 pixels: in a larger one, what is weak or in one place
    alone drowns in the statistics of the whole.
    """
    height, width = image.shape[-2:]
    down, across = round(PART * height), round(PART * width)
    if min(down, across) < LEAST_PART or max(height, width) > LARGEST:
        return []
    return [image[..., :down, :across], image[..., -down:, -across:]]


def thumbnail(image: Tensor, size: int) -> Tensor:
    """The whole scene, antialiased, for haze and darkness: (B, 3, H, W) → (B, 3, size, size)."""
    small = F.interpolate(image, (size, size), mode="bicubic", antialias=True, align_corners=False)
    return small.clamp(0, 1)


class QualityHead(nn.Module):
    """Fuses the features of crops and thumbnail, and scores each degradation on its own.

    Args:
        feature_dim: width E of the image tower's features.
        embed_dim: width of the pooled text embeddings.
        degradations: number K of degradations, "no" excluded.
        hidden: width of the fusion.
        measures: number of measures blended in, 0 for none.
        members: networks of the blend.
        locator: keyword arguments of `Locator`, whose evidence counts among the measures.
        trials: keyword arguments of a `Trial` by degradation, for what the head is in doubt about.
    """

    blend: Blend | None
    locator: Locator | None

    def __init__(
        self,
        *,
        feature_dim: int,
        embed_dim: int,
        degradations: int,
        hidden: int = 256,
        measures: int = 0,
        members: int = 1,
        locator: Mapping[str, Any] | None = None,
        trials: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = {
            "feature_dim": feature_dim,
            "embed_dim": embed_dim,
            "degradations": degradations,
            "hidden": hidden,
        }
        self.fuse = nn.Sequential(nn.Linear(3 * feature_dim, hidden), nn.GELU())
        self.embed = nn.Linear(hidden, embed_dim)
        self.presence = nn.Linear(hidden, degradations)
        self.logit_scale = nn.Parameter(torch.tensor(10.0).log())
        self.blend = self.locator = None
        self.trials = nn.ModuleDict()
        if locator is not None:
            self.add_locator(locator)
        if measures:
            self.add_blend(measures, members)
        for key, config in (trials or {}).items():
            self.add_trial(key, config)

    @property
    def measured(self) -> bool:
        """Whether measures of the whole photo are blended in."""
        return self.blend is not None

    def measures(self, images: Tensor) -> Tensor:
        """What a blend is told: photos (B, 3, H, W) → (B, F), on the images' device.

        Classical measures, the evidence of the locator where there is one, and the measures of
        fine streaks, which a blend from before they existed does not read.
        """
        rows = []
        for image in images.detach().float().split(1):
            row = measure(image.cpu()).to(image.device)
            if self.locator is not None:
                row = torch.cat([row, self.locator.evidence(image).to(row)])
            rows.append(torch.cat([row, streaks.measure(image.cpu()).to(row)]))
        return torch.stack(rows)

    @property
    def evidences(self) -> int:
        """How many of the measures are the locator's; only those of streaks come after them."""
        return 0 if self.locator is None else STATISTICS * self.locator.out.out_channels

    def add_locator(self, config: Mapping[str, Any]) -> Locator:
        """A locator of fresh weights; there is no blend until one is trained that reads it."""
        self.drop_blend()
        self.locator = Locator(**config).to(self.presence.weight)
        self.config["locator"] = self.locator.config
        return self.locator

    def add_trial(self, key: str, config: Mapping[str, Any]) -> Trial:
        """A trial of fresh weights in place of the one that there is for a degradation."""
        tried = Trial(**config).to(self.presence.weight)
        self.trials[key] = tried
        self.config["trials"] = {**self.config.get("trials", {}), key: tried.config}
        return tried

    def add_blend(self, measures: int, members: int = 1) -> Blend:
        """Blend ``measures`` figures in; until it is trained nothing changes.

        A blend of as many measures stays, one of fewer is widened and keeps what it has learnt; one
        of fewer ``members`` gets fresh ones.
        """
        if self.blend is not None and self.blend.measures < measures:
            self.blend = self.blend.widened(measures)
        elif self.blend is None or self.blend.measures > measures:
            self.blend = Blend(self.config["hidden"], measures).to(self.presence.weight)
        self.blend.enlarge(members)
        self.config |= {"measures": measures, "members": len(self.blend.nets)}
        return self.blend

    def drop_blend(self) -> None:
        """Judge by the tower alone again."""
        for key in ("measures", "members"):
            self.config.pop(key, None)
        self.blend = None

    def fused(self, features: Tensor) -> Tensor:
        """Features (B, N + 1, E) of crops and thumbnail → (B, hidden), any number of crops."""
        crops, thumbnails = features[:, :-1], features[:, -1]
        views = torch.cat([crops.mean(1), crops.amax(1), thumbnails], dim=-1)
        fused: Tensor = self.fuse(views)
        return fused

    def forward(self, fused: Tensor, measures: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Fused features → image embedding and presence logits.

        Args:
            fused: (B, hidden).
            measures: (B, F) of `measures`; without them the tower judges alone.

        Returns:
            (B, embed_dim) L2-normalized; (B, K) logits.
        """
        if self.blend is not None and measures is not None:
            fused = self.blend(fused, measures)
        return F.normalize(self.embed(fused), dim=-1), self.presence(fused)

    def views(self, image: Tensor, size: int, per_side: int) -> Tensor:
        """(B, 3, H, W) → (B, N + 1, 3, size, size): native crops, and the thumbnail last."""
        crops = native_crops(image, size, per_side)
        return torch.cat([crops, thumbnail(image, size)[:, None]], dim=1)

    def judge(
        self, features: Tensor, prompts: Tensor, clean: int, measures: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Features (B, N + 1, E) of the views → logits (B, P), presence logits (B, K).

        ``clean`` is not needed: presence is learnt, and not compared with "no".
        """
        embedding, presence = self(self.fused(features), measures)
        return self.scores(embedding.float(), prompts), presence.float()

    def scores(self, embedding: Tensor, prompts: Tensor) -> Tensor:
        """Logits (B, P) = exp(logit_scale) · cos(image, prompt); prompts (P, E) are normalized."""
        return self.logit_scale.exp().clamp(max=100.0) * embedding @ prompts.T


class Head(Protocol):
    """What the quality model needs of a head."""

    def views(self, image: Tensor, size: int, per_side: int) -> Tensor:
        """(B, 3, H, W) → the crops (B, N, 3, size, size) that the image tower sees."""

    @property
    def measured(self) -> bool:
        """Whether it takes measures of the whole photo."""

    def measures(self, images: Tensor) -> Tensor:
        """Photos (B, 3, H, W) → those measures (B, F)."""

    def judge(
        self, features: Tensor, prompts: Tensor, clean: int, measures: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Their features (B, N, E) → logits (B, P) over prompts, presence logits (B, P − 1)."""


class QualityModel(nn.Module):
    """CLIP and the head together: photos → logits over the prompts, and presence logits.

    Args:
        clip: both towers; the text tower is frozen.
        head: chooses the views and scores their features.
        taxonomy: the degradations, in softmax order.
    """

    prompts: Tensor

    def __init__(self, clip: Clip, head: Head, taxonomy: Taxonomy) -> None:
        super().__init__()
        self.clip, self.head, self.taxonomy = clip, head, taxonomy
        with torch.no_grad():
            prompts = clip.encode_text([taxonomy.prompt(key) for key in taxonomy.keys]).pooled
        self.register_buffer("prompts", prompts.detach().clone(), persistent=False)

    def forward(
        self, image: Tensor, per_side: int = MAX_CROPS_PER_SIDE, *, whole: bool = True
    ) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) in [0, 1] → logits (B, K + 1) in softmax order, presence logits (B, K).

        Args:
            image: photos, sRGB-encoded.
            per_side: limits the grid of crops along each side.
            whole: whole photos, which measures are taken of; parts of one are judged by the tower
                alone.
        """
        measures = self.head.measures(image) if whole and self.head.measured else None
        clean = self.taxonomy.index(self.taxonomy.clean)
        return self.head.judge(self.features(image, per_side), self.prompts, clean, measures)

    def closely(self, image: Tensor, per_side: int = MAX_CROPS_PER_SIDE) -> tuple[Tensor, Tensor]:
        """The same for one photo, `parts` of which are judged too where the whole is not `SURE`.

        Half of the mean is the whole photo's. A head that takes no measures sees native crops of
        the photo anyway, and is asked once, as published.
        """
        logits, presence = self(image, per_side)
        if not self.head.measured or float(presence.max()) >= SURE:
            return logits, presence
        further = [self(part, per_side) for part in parts(image)]
        if not further:
            return logits, presence
        of_parts, present = (torch.stack(each).mean(0) for each in zip(*further, strict=True))
        return (logits + of_parts) / 2, (presence + present) / 2

    def features(self, image: Tensor, per_side: int = MAX_CROPS_PER_SIDE) -> Tensor:
        """(B, 3, H, W) → the tower's features (B, N + 1, E) of the views, the thumbnail last."""
        views = self.head.views(image, self.clip.image_size, per_side)
        features: Tensor = self.clip.encode_image(views.flatten(0, 1))
        return features.view(*views.shape[:2], -1)


class BiqaDiagnoser:
    """Scores a photo against the prompts, among the degradations that are still allowed.

    Args:
        model: the quality model.
        calibration: temperature and thresholds.
        crops: at most so many native crops along each side.
        mix_clean: let the prompt of "no" into the mixture, with its probability, as published.
        once: judge a photo as a whole and not its parts.
        suspicions: what is tried where the model is in doubt.
    """

    def __init__(
        self,
        model: QualityModel,
        calibration: Calibration,
        crops: int = MAX_CROPS_PER_SIDE,
        mix_clean: bool = False,
        once: bool = False,
        suspicions: Sequence[Suspicion] = (),
    ) -> None:
        self.model, self.calibration = model, calibration
        self.crops, self.mix_clean, self.once = crops, mix_clean, once
        self.suspicions = tuple(suspicions)

    def looking(self, crops: int, mix_clean: bool) -> BiqaDiagnoser:
        """The same diagnosis from another number of crops, or with another mixture."""
        other = copy.copy(self)
        other.crops, other.mix_clean = crops, mix_clean
        return other

    def quick(self) -> BiqaDiagnoser:
        """The same diagnosis from the whole photo alone, for looks after a repair."""
        other = copy.copy(self)
        other.once = True
        return other

    @torch.inference_mode()
    def diagnose(self, pixels: Tensor, among: Taxonomy) -> Diagnosis:
        """What is wrong with one photo.

        Args:
            pixels: (1, 3, H, W) in [0, 1].
            among: the degradations asked about; the softmax runs over these and "no".

        Returns:
            The diagnosis; ``main`` is the most probable degradation, or None where no presence
            reaches its threshold. The mixture is over it and those of `MIXED` or more, for
            what is not there conditions nothing; with ``mix_clean`` over all prompts.
        """
        check_image(pixels, "pixels")
        everything = self.model.taxonomy
        look = self.model if self.once else self.model.closely
        logits, raw = look(pixels, self.crops)
        keys = [key for key in everything.keys if key == everything.clean or key in among.keys]
        chosen = logits[0, [everything.index(key) for key in keys]] / self.calibration.temperature
        presence = {
            degradation.key: self.calibration.presence(degradation.key, float(raw[0, index]))
            for index, degradation in enumerate(everything)
        }
        for suspicion in self.suspicions:
            if (key := suspicion.key) not in keys:
                continue
            before, limit = presence[key], self.calibration.threshold(key)
            presence[key] = suspicion.presence(pixels, before, limit)
            if presence[key] > before:
                chosen[keys.index(key)] += _log_odds(presence[key]) - _log_odds(before)
        probabilities = dict(zip(keys, chosen.softmax(0).tolist(), strict=True))
        asked = [d for d in everything if d.key in among.keys]
        found = [d for d in asked if presence[d.key] >= self.calibration.threshold(d.key)]
        main = max(found, key=lambda d: probabilities[d.key], default=None)
        likely = [d for d in found if d is main or presence[d.key] >= MIXED]
        told = keys if self.mix_clean else [d.key for d in likely or asked] or [everything.clean]
        weights = chosen[[keys.index(key) for key in told]].double().softmax(0)
        mixture = Mixture(
            phrases=tuple(everything.prompt(key) for key in told), weights=tuple(weights.tolist())
        )
        return Diagnosis(probabilities=probabilities, presence=presence, main=main, mixture=mixture)


def _log_odds(probability: float) -> float:
    return math.log(probability / (1 - probability))
