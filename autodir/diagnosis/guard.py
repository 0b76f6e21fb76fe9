"""The guard: did a round help? It looks again and decides to keep, blend or roll back.

Apart from the loop, so that its worth can be measured by leaving it out (``--no-guard``).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from autodir.diagnosis.changes import (
    VEIL_SIDE,
    contrast,
    dark_channel,
    edge_strength,
    root_mean_square_change,
    structure_agreement,
    tone_distance,
)
from autodir.diagnosis.manual import SupportsDiagnose
from autodir.imaging.color import luma
from autodir.imaging.neighborhoods import shrunk
from autodir.prompts import Taxonomy
from autodir.records import Diagnosis, Verdict, VerdictKind, check_image


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """How far a repair may move a photo before it is another photo.

    Attributes:
        tone: largest mean distance of the low frequencies, in [0, 1].
        structure: least correlation of the gradients, in [-1, 1].
    """

    tone: float
    structure: float


LIMITS: Mapping[str, Limits] = {
    "underexposure": Limits(tone=0.75, structure=0.3),
    "haze": Limits(tone=0.55, structure=0.3),
    "rain": Limits(tone=0.35, structure=0.12),
    "raindrop": Limits(tone=0.20, structure=0.4),
    "noise": Limits(tone=0.06, structure=0.2),
    "blur": Limits(tone=0.03, structure=0.05),
}
"""Repairs that change tone by their nature, or gradients: those of a noisy photo are its grain,
where haze or blur have taken the rest, and those of a blurred one are turned where a motion has
reversed them. Of 28 held-out photos repaired as blurred all that gained lay at 0.02 and 0.36 or
better, and the one that lost 10 dB had a tone of 0.04. Thick haze is lifted by up to 0.49: three
of 229 held-out photos with haze had more than 0.4, and gained 8 to 14 dB. Targets of 64 held-out
photos in dense and severe rain lie at up to 0.30 and down to 0.15. All others have
`DEFAULT_LIMITS`."""
DEFAULT_LIMITS = Limits(tone=0.06, structure=0.4)
LEAST_CONTRAST = 1.25
"""Deviation of the luma after lifting haze, in terms of what it was, below which there was none.

Where airlight took the contrast it comes back: of 225 held-out photos found hazy, of severity
0.15, 0.35 and 0.6, six gained less; of 80 without haze, dehazed nevertheless, 78 did.
"""
LEAST_CONTRAST_IN_DOUBT = 1.35
"""The same where haze was found with a presence below `SURE_OF_VEIL` and a mean dark channel below
`LEAST_VEIL`: more than any of 232 clean held-out views gained by it (1.30).

Without haze nearly every neighborhood holds something dark or colored. Of the 225 four more are
denied their repair by it; 16 are where the dark channel alone is asked.
"""
LEAST_VEIL, SURE_OF_VEIL = 0.35, 0.95
SURE_BEHIND_NOISE = 0.99
"""Presence of haze below which `LEAST_CONTRAST_IN_DOUBT` is asked where noise was repaired and
nothing else, whatever the dark channel is.

A photo without its noise is as even as mist. Of 54 held-out photos with haze under noise this
denies two their repair, and none of 30 others with more than two degradations; of 68 test photos
three look hazy without their noise, whose rounds cost 10 to 16 dB: two lie below, one at times.
"""
LEAST_CONTRAST_UNDER_VEIL = 1.05
"""The same where a photo that nothing was done to yet is hazy and its mean dark channel is above
`LEAST_VEIL`: haze that thickens with the distance leaves near things their contrast.

Six of eight real photos with haze were taken back for less than `LEAST_CONTRAST` (0.88 to 1.17
times), five of them under a veil of 0.38 and more; by eye four are better. Of 500 clean held-out
views none looks hazy (presence below 0.05), though 8 % have as high a dark channel. Behind rain
that was repaired what looks hazy is often none: of 90 held-out photos six do under such a veil, and
five of them would lose 10 to 22 dB.
"""
MOST_LIGHT = 0.4
"""Mean luma above which a photo does not lack light.

Of held-out photos darkened with a severity of 0.1 one in twenty lies above, of 0.25 one in eighty,
of more none; of the same photos as they are, three in five.
"""
TOO_LIGHT = 0.75
"""Mean luma that no photo that lacked light has after its repair.

Of 146 rounds for darkness on held-out dark photos three came out above 0.68, at 0.70 to 0.72, all
of them 14 dB better and more; photos that were not dark do.
"""
LEAST_EDGES = 1.0
"""Sharpness of the strongest edges after a repair of blur, in terms of what it was.

Of 56 held-out photos with blur, repaired as such, the least had 1.04 and one in twenty less than
1.19; where blur differs within a photo, or is too strong, a filter leaves doubled, softer edges.
"""
LEAST_CHANGE = 12**-0.5 / 255
"""Root mean square change below which a round has done nothing: that of rounding to eight bits."""
UNCOVERED: Mapping[str, frozenset[str]] = {
    "noise": frozenset({"compression", "low_resolution", "blur"}),
    "underexposure": frozenset({"noise", "compression", "low_resolution", "blur"}),
    "rain": frozenset({"haze", "noise"}),
    "haze": frozenset({"noise"}),
    "blur": frozenset({"low_resolution"}),
}
"""Side effects that say nothing of harm, by what was repaired.

Without its grain a photo is as smooth between its edges as a compressed or enlarged one, and looks
like one to the measures: of seven held-out photos with noise, four were taken back for it, each of
them 4 to 10 dB better than it came. What lay in the dark is seen only when there is light: of 33
held-out dark photos 24 looked noisy, compressed or enlarged after a repair of 11 dB in the mean;
the two that it had made worse did not. A shower has a veil of its own, which is called haze once
its streaks are gone, and both hide grain: of 64 held-out photos with rain and no noise none looked
much noisier afterwards, of 58 with noise three did, all of them better than before; of 116 rounds
for haze six left a photo that looked noisier by a quarter, and there was noise in all six. What was
blurred is smooth between its sharper edges, as if enlarged: of 265 held-out photos with blur six
were taken back for it, which had gained 0.8 to 3.2 dB. A later round takes care of what is really
there.
"""

TOLD_BY_EDGES = frozenset({"blur"})
"""Degradations that may look worse after their repair: something else tells whether it helped.

Five of the same 265 photos were taken back because their blur seemed to grow, though their edges
had not become softer (`LEAST_EDGES`): they had gained 0.1 to 3.1 dB.
"""

LEAST_BEHIND: Mapping[str, float] = {"blur": 0.8, "raindrop": 0.8, "underexposure": 0.5}
"""Presence that is asked for behind another repair: without its grain a photo is soft in places.

Of 63 rounds for blur behind something else, on held-out photos, the 48 above gained 1.0 dB in the
mean, the 15 below lost 0.8, one of them, a photo of mild noise, 12. Of 11 for drops the eight above
gained 1.5 dB, the three below 0.1. Of 65 for darkness the four below lost 1.4 dB in the mean, two
of them 10 and more, in photos that were not dark.
"""

LEAST_AFTER: Mapping[tuple[str, str], float] = {("rain", "haze"): 0.8}
"""The same for what comes (second) where one thing (first) was repaired before it.

Of 360 held-out showers without haze twelve look hazy without their streaks, eight of them with less
presence, of which seven would lose 3 to 11 dB; of 23 photos with haze behind rain two show less.
"""

NEVER_ADDED = frozenset({"raindrop"})
"""What no repair can put into a photo, whatever its result looks like.

Drops are told by the grain that is missing in them, and a denoised photo has none.
"""

GIVES_AWAY: Mapping[str, str] = {"underexposure": "haze"}
"""What a photo looks like after a repair that it did not need, by what was repaired.

A scene that is dark by nature is gray in the light, as if veiled: of fifteen rounds for darkness on
held-out photos with several degradations the fourteen that helped left a presence of haze of 0.16
at most, and the one that cost 20 dB left 0.94.
"""
SURE_OF_DARKNESS = 0.95
"""Presence from which on a dark photo may look hazy in the light: what was in deep shade is gray.

Of 146 rounds on held-out dark photos two ended so, both surely dark (1.00), and had gained 4 and 12
dB; of 420 clean held-out views none looks dark.
"""

LEAST_TRACE: Mapping[str, float] = {
    "haze": 0.3, "underexposure": 0.1, "blur": 0.1, "low_resolution": 0.2, "raindrop": 0.03,
    "rain": 0.57,
}  # fmt: skip
"""What was there when the photo was taken, or never: presence in the first look, below which later
looks do not ask for it.

A photo without its noise is smoother than any that the diagnosis has learnt from, and at times
looks hazy or dark to it: two and three of forty held-out photos with noise alone did. With these
limits none and one do, and 38 and 34 of forty where haze or darkness really lay under the noise are
still repaired, of 40 without limits. An enlarged photo looks blurred once its edges are repaired:
of thirty held-out ones 25 lie below the limit, and so do ten of 64 with blur under something else.
A denoised photo of a good camera can look enlarged; of 24 held-out photos with noise in which low
resolution really was, all had shown it in the first look, at 0.9 and more. Seven of sixty denoised
ones looked as if through drops, which grain hides: of forty with noise alone one lies above the
limit in the first look (0.033), of forty with drops under noise seven do. What the others lose is
rarer than a repair of drops that are not there. Of 73 rounds for rain behind something else, on
held-out photos with rain, 70 had shown it at 0.57 and more in the first look; the other three
changed the photo by -1.4 to 0.9 dB. A shaken photo has lines once its edges are sharp.
"""


VEILED_BY: Mapping[str, tuple[str, float]] = {"haze": ("rain", 0.5)}
"""What needs no trace in the first look where something else had at least this presence in it.

Rain is learnt with a veil of its own: of nine test photos with haze under rain six show a presence
of haze below 0.3 in the first look, two of which look hazy once the streaks are gone.
"""

COVERS: Mapping[str, frozenset[str]] = {
    "low_resolution": frozenset({"blur"}),
    "blur": frozenset({"low_resolution"}),
}
"""What is not looked for any more, by what was repaired before it.

An enlarged photo is a blurred one as well, and its edges are repaired once: of fifteen held-out
photos with both, degraded by published chains, a round for blur after that for low resolution took
0.2 dB from the mean and helped two. The other way round 17 of 24 were found, of which 16 lost by
it, 1.0 dB at most, and one gained 0.05.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class GuardOptions:
    """The thresholds of a verdict, in calibrated presence.

    Attributes:
        rise: the named degradation may grow by this much before the round counts as harmful.
        side_effect: another degradation may grow by this much before only part of the change is
            taken.
        harm: a side effect this much larger than the gain rolls the round back.
        blend: share of the change that a blended round takes.
    """

    rise: float = 0.05
    side_effect: float = 0.5
    harm: float = 0.9
    blend: float = 0.5


class Guard:
    """Judges the decoded pixels of one round (product rule "do no harm").

    Args:
        diagnoser: looks at the candidate.
        options: thresholds.
    """

    def __init__(self, diagnoser: SupportsDiagnose, options: GuardOptions | None = None) -> None:
        self._diagnoser, self._options = diagnoser, options or GuardOptions()

    def judge(
        self,
        before: Diagnosis,
        image: Tensor,
        candidate: Tensor,
        among: Taxonomy,
        *,
        behind: Collection[str] = (),
    ) -> Verdict:
        """Keep, blend or roll back.

        Args:
            before: the diagnosis that started the round; its ``main`` was repaired.
            image: (1, 3, H, W) before the round.
            candidate: (1, 3, H, W) after it.
            among: what the next round may repair; the new diagnosis is made among these.
            behind: what earlier rounds repaired; nothing where ``image`` is the photo as it came.

        Returns:
            The verdict, with the image to go on with and, where it is the candidate, its diagnosis.
        """
        check_image(candidate, "candidate")
        if before.main is None:
            return Verdict(kind="kept", why="nothing was repaired", image=image)
        key, options = before.main.key, self._options
        after = self._diagnoser.diagnose(candidate, among)
        known = [other for other in after.presence if other in before.presence]
        seen = before.presence.get(key, 1.0)
        gain = seen - after.presence.get(key, 0.0)
        told = [
            other for other in known if other not in {key, *NEVER_ADDED, *UNCOVERED.get(key, ())}
        ]
        rises = {other: after.presence[other] - before.presence[other] for other in told}
        worst = max(rises, key=lambda other: rises[other], default=key)
        rise = rises.get(worst, 0.0)
        tone, structure = tone_distance(image, candidate), structure_agreement(image, candidate)
        measures = {"gain": gain, "side_effect": rise, "tone": tone, "structure": structure}
        limits = LIMITS.get(key, DEFAULT_LIMITS)
        kind: VerdictKind
        if key == "haze":
            small = shrunk(image, VEIL_SIDE)  # large photos are shrunk once for both
            measures["veil"] = dark_channel(small)
            measures["contrast"] = contrast(candidate) / max(contrast(small), 1e-6)
        elif key == "underexposure":
            measures["light"] = float(luma(image).mean())
            measures["light_after"] = float(luma(candidate).mean())
        elif key == "blur":
            measures["edges"] = edge_strength(candidate) / max(edge_strength(image), 1e-6)
        change = root_mean_square_change(image, candidate)
        if change < LEAST_CHANGE:
            kind, why = "rolled back", f"nothing to be seen (a change of {255 * change:.2f} of 255)"
        elif seen < _least_presence(key, behind):
            kind, why = "rolled back", f"{key} in doubt ({seen:.2f})"
        elif "contrast" in measures and measures["contrast"] < _contrast_asked(
            before, measures, behind
        ):
            kind, why = (
                "rolled back",
                f"no veil to lift (contrast {measures['contrast']:.2f} times)",
            )
        elif measures.get("light", 0.0) > MOST_LIGHT:
            kind, why = "rolled back", f"no lack of light (mean {measures['light']:.2f})"
        elif measures.get("light_after", 0.0) > TOO_LIGHT:
            kind, why = "rolled back", f"too light after it (mean {measures['light_after']:.2f})"
        elif (
            seen < SURE_OF_DARKNESS
            and rises.get(GIVES_AWAY.get(key, ""), 0.0) > options.side_effect
        ):
            kind, why = "rolled back", f"{GIVES_AWAY[key]} in place of it"
        elif measures.get("edges", 1.0) < LEAST_EDGES:
            kind, why = "rolled back", f"softer edges than before ({measures['edges']:.2f} of them)"
        elif tone > limits.tone or structure < limits.structure:
            kind, why = (
                "rolled back",
                f"no longer the same picture (tone {tone:.2f}, structure {structure:.2f})",
            )
        elif gain < -options.rise and key not in TOLD_BY_EDGES:
            kind, why = (
                "rolled back",
                f"{key} grew from {seen:.2f} by {-gain:.2f}",
            )
        elif rise > options.side_effect and rise - max(gain, 0.0) > options.harm:
            kind, why = "rolled back", f"{worst} grew by {rise:.2f}"
        elif rise > options.side_effect and rise > gain:
            kind, why = "blended", f"{worst} grew by {rise:.2f}"
        else:
            kind, why = "kept", f"{key} fell by {gain:.2f}"
            if gain < 0 and key in TOLD_BY_EDGES:
                why = f"sharper edges ({measures['edges']:.2f} times)"
        if kind == "kept":
            return Verdict(kind=kind, why=why, image=candidate, after=after, measures=measures)
        share = options.blend if kind == "blended" else 0.0
        mixed = torch.lerp(image, candidate, share) if share else image
        return Verdict(kind=kind, why=why, image=mixed, measures=measures)


def not_ruled_out(first: Diagnosis, among: Taxonomy) -> Taxonomy:
    """What later rounds may look for: without what `LEAST_TRACE` rules out after the first look.

    Args:
        first: the diagnosis of the photo as it came.
        among: what the user asked for.
    """
    unseen = [
        one for one in among if first.presence.get(one.key, 1.0) < LEAST_TRACE.get(one.key, 0.0)
    ]
    hidden = {key for key, (by, least) in VEILED_BY.items() if first.presence.get(by, 0.0) >= least}
    return among.without(*(one for one in unseen if one.key not in hidden))


def left_after(repaired: str, among: Taxonomy, *, covered: bool = True) -> Taxonomy:
    """What later rounds may look for after one degradation was repaired, or tried to be.

    Args:
        repaired: its key.
        among: what was looked for so far.
        covered: leave out what that repair `COVERS` as well.
    """
    gone = {repaired, *(COVERS.get(repaired, ()) if covered else ())}
    return among.without(*(one for one in among if one.key in gone))


def _least_presence(key: str, behind: Collection[str]) -> float:
    """What `LEAST_BEHIND` and `LEAST_AFTER` ask of a degradation."""
    asked = [max(LEAST_BEHIND.get(key, 0.0), LEAST_AFTER.get((one, key), 0.0)) for one in behind]
    return max(asked, default=0.0)


def _contrast_asked(
    before: Diagnosis, measures: Mapping[str, float], behind: Collection[str]
) -> float:
    veiled = measures["veil"] >= LEAST_VEIL
    if not behind and veiled:
        return LEAST_CONTRAST_UNDER_VEIL
    presence = before.presence.get("haze", 0.0)
    if set(behind) == {"noise"}:
        doubted = presence < SURE_BEHIND_NOISE
    else:
        doubted = presence < SURE_OF_VEIL and not veiled
    return LEAST_CONTRAST_IN_DOUBT if doubted else LEAST_CONTRAST
