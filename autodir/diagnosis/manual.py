"""Diagnosers that follow the user: their own prompts in order, or their list of degradations.

Apart from the quality model, so that the restore loop never asks who decided what to repair.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from autodir.clip import Clip
from autodir.errors import PromptError
from autodir.prompts import Degradation, Taxonomy
from autodir.records import Diagnosis, Mixture, check_image

PROMPT_THRESHOLD = 0.5


class SupportsDiagnose(Protocol):
    """Anything that says what is wrong with a photo."""

    def diagnose(self, pixels: Tensor, among: Taxonomy) -> Diagnosis:
        """What is wrong with (1, 3, H, W) pixels in [0, 1], among these degradations."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ResolvedPrompt:
    """What a user's sentence means.

    Attributes:
        text: the sentence as written.
        degradation: the one that it names.
        presence: by key, the calibrated probability that the sentence names the degradation.
    """

    text: str
    degradation: Degradation
    presence: dict[str, float]

    @property
    def probability(self) -> float:
        """Of `degradation`."""
        return self.presence[self.degradation.key]


def resolve_prompt(
    text: str, clip: Clip, taxonomy: Taxonomy, threshold: float = PROMPT_THRESHOLD
) -> tuple[Degradation, float]:
    """The degradation that a sentence names, and its probability: sigmoid(scale · cosine + bias).

    Raises:
        PromptError: the text is empty, or names no degradation of the taxonomy.
    """
    resolved = understand(text, clip, taxonomy, threshold)
    return resolved.degradation, resolved.probability


@torch.inference_mode()
def understand(
    text: str, clip: Clip, taxonomy: Taxonomy, threshold: float = PROMPT_THRESHOLD
) -> ResolvedPrompt:
    """`resolve_prompt` with the probabilities of all; a key or label is always understood.

    A model whose text tower follows any prompt takes the nearest degradation, whatever is asked.

    Raises:
        PromptError: the text is empty, or names no degradation of the taxonomy.
    """
    known = ", ".join(degradation.label for degradation in taxonomy)
    if not text.strip():
        raise PromptError("the prompt is empty", f"name what is wrong with the photo: {known}")
    if not len(taxonomy):
        raise PromptError(f"the prompt {text!r} names no degradation, for none is left to name")
    scores = _probabilities(text, clip, taxonomy)
    clean = scores.pop(taxonomy.clean)
    try:
        named = taxonomy.get(text)
    except PromptError:
        named = None
    if named is not None:
        return ResolvedPrompt(text=text, degradation=named, presence={**scores, named.key: 1.0})
    best = max(taxonomy, key=lambda degradation: scores[degradation.key])
    if scores[best.key] < max(threshold, clean) and not clip.config.get("any_prompt", False):
        raise PromptError(
            f"the prompt {text!r} names no degradation that this model knows",
            f"nearest: {best.label} ({scores[best.key]:.2f}); known: {known}",
        )
    return ResolvedPrompt(text=text, degradation=best, presence=scores)


class PromptDiagnoser:
    """Follows the user's prompts, one round each, whatever the photo looks like.

    One instance serves one photo: each call of `diagnose` takes the next prompt, and after the
    last one the photo counts as clean.

    Args:
        prompts: the user's sentences, all understood before any work begins.
        clip: the text tower.
        taxonomy: the degradations that a prompt may name.
        threshold: the least probability at which a prompt counts as understood.

    Raises:
        PromptError: a prompt names no degradation.
    """

    def __init__(
        self,
        prompts: Sequence[str],
        clip: Clip,
        taxonomy: Taxonomy,
        threshold: float = PROMPT_THRESHOLD,
    ) -> None:
        self.planned = tuple(understand(text, clip, taxonomy, threshold) for text in prompts)
        self._taxonomy = taxonomy
        self._turn = 0

    def diagnose(self, pixels: Tensor, among: Taxonomy) -> Diagnosis:
        """What the next prompt says; its own words condition the repair.

        A prompt may repeat what an earlier round has repaired, so ``among`` does not restrict it.

        Args:
            pixels: (1, 3, H, W) in [0, 1], checked and not looked at.
            among: the degradations still allowed, of which the probabilities are told.
        """
        check_image(pixels, "pixels")
        if self._turn == len(self.planned):
            return self._finished(among)
        resolved = self.planned[self._turn]
        self._turn += 1
        main = resolved.degradation
        return Diagnosis(
            probabilities=_share(resolved, self._taxonomy.clean),
            presence=resolved.presence,
            main=main,
            mixture=Mixture(phrases=(resolved.text,), weights=(1.0,), free=True),
            prompt=resolved.text,
        )

    def _finished(self, among: Taxonomy) -> Diagnosis:
        nothing = dict.fromkeys((degradation.key for degradation in among), 0.0)
        sentence = self._taxonomy.prompt(self._taxonomy.clean)
        return Diagnosis(
            probabilities={**nothing, self._taxonomy.clean: 1.0},
            presence=nothing,
            main=None,
            mixture=Mixture(phrases=(sentence,), weights=(1.0,)),
        )


class ListDiagnoser:
    """Asks another diagnoser, but only about the degradations that the user lists.

    Args:
        inner: decides among what is left.
        taxonomy: all degradations, against which the names are checked.
        only: keys or labels to keep; empty keeps all.
        skip: keys or labels to leave alone.

    Raises:
        PromptError: a name is unknown.
    """

    def __init__(
        self,
        inner: SupportsDiagnose,
        taxonomy: Taxonomy,
        only: Iterable[str] = (),
        skip: Iterable[str] = (),
    ) -> None:
        self._inner = inner
        wanted = [taxonomy.get(name) for name in only] or list(taxonomy)
        unwanted = {taxonomy.get(name).key for name in skip}
        self.keys = frozenset(d.key for d in wanted if d.key not in unwanted)

    def diagnose(self, pixels: Tensor, among: Taxonomy) -> Diagnosis:
        """The inner diagnosis among those of the list that are still allowed."""
        allowed = among.only(d.key for d in among if d.key in self.keys)
        return self._inner.diagnose(pixels, allowed)


def _probabilities(text: str, clip: Clip, taxonomy: Taxonomy) -> dict[str, float]:
    """By key, the clean one too: sigmoid(scale · cosine(text, template) + bias)."""
    pooled = clip.encode_text([text, *taxonomy.sentences]).pooled.float()
    logits = clip.config["prompt_scale"] * (pooled[1:] @ pooled[0]) + clip.config["prompt_bias"]
    return dict(zip(taxonomy.keys, torch.sigmoid(logits).tolist(), strict=True))


def _share(resolved: ResolvedPrompt, clean: str) -> dict[str, float]:
    """Probabilities that sum to 1: the main one as it is, the rest of 1 shared by the others."""
    main = resolved.degradation.key
    rest = 1.0 - resolved.probability
    others = {key: value for key, value in resolved.presence.items() if key != main}
    total = sum(others.values())
    shared = {key: rest * value / total if total else 0.0 for key, value in others.items()}
    return {**shared, main: resolved.probability, clean: rest if not total else 0.0}
