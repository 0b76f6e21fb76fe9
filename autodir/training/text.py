"""Text tower: phrases → the sentence vector of their degradation's template, and near no other.

Apart and first, because every later stage reads the token states that are learnt here.
"""

from __future__ import annotations

import json
import logging
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss

from autodir.clip import Clip
from autodir.phrases import UNKNOWN, PhraseCorpus, Word, augment
from autodir.prompts import Taxonomy, load_heldout, load_phrases, load_taxonomy
from autodir.records import TextEmbedding
from autodir.tokens import Tokens
from autodir.training.loop import LoopOptions, fit, processes

logger = logging.getLogger(__name__)

_ENGLISH = "en"
_ENGLISH_SHARE = 0.7
_GROUPS = 4  # of similar length in a batch, each computed without the padding of the longest
_JOINTS = (" and ", ", ", ". ", " & ", " and also ", ", then ", "; ", " + ", " plus ")


@dataclass(frozen=True, kw_only=True, slots=True)
class TextRecipe:
    """What is drawn and how the terms weigh.

    Attributes:
        batch: phrases in a step.
        learning_rate: peak rate.
        unknown, clean: how often a phrase without a degradation, or of a clean photo, is drawn,
            against 1 for each degradation.
        pairs: probability that a phrase names two degradations.
        chatter: probability that an unrelated sentence stands beside the phrase.
        align: weight of 1 − cosine to the own template.
        apart: weight of the templates' mutual cosines above ``margin``.
        states: weight of the term that makes token states alone tell the degradation.
        keep: weight of holding the templates' token states and vectors where they are at the start,
            so that networks trained on them stay valid while the tower learns more words; 0 is off.
        max_steps: end after so many steps, whatever is left of the budget.
        precision: "fp32" or "bf16" (autocast).
    """

    batch: int = 64
    learning_rate: float = 1e-3
    unknown: float = 2.5
    clean: float = 0.4
    pairs: float = 0.1
    chatter: float = 0.1
    align: float = 0.5
    apart: float = 5.0
    margin: float = 0.05
    states: float = 0.3
    keep: float = 0.0
    max_steps: int | None = None
    precision: str = "bf16"


class PhraseSampler:
    """Draws (phrase, targets): a word, a frame, perhaps company, typos."""

    def __init__(self, corpus: PhraseCorpus, taxonomy: Taxonomy, recipe: TextRecipe) -> None:
        self._corpus, self._taxonomy, self._recipe = corpus, taxonomy, recipe
        self._words: dict[str, dict[str, list[Word]]] = {}
        named = {word.key for word in corpus.words}
        labels = zip(taxonomy.keys, taxonomy.labels, strict=True)
        bare = [Word(key, _ENGLISH, "noun", label) for key, label in labels if key not in named]
        for word in (*corpus.words, *bare):  # a new degradation is known by its label at least
            if word.key in (*taxonomy.keys, UNKNOWN):
                self._words.setdefault(word.key, {}).setdefault(word.language, []).append(word)
        weights = {taxonomy.clean: recipe.clean, UNKNOWN: recipe.unknown}
        self._keys = list(self._words)
        self._weights = [weights.get(key, 1.0) for key in self._keys]

    def draw(self, rng: random.Random) -> tuple[str, tuple[str, ...]]:
        """One phrase as typed, and the keys that it names (none for an unknown one)."""
        key = rng.choices(self._keys, self._weights)[0]
        if key == UNKNOWN:
            phrase = _gibberish(rng) if rng.random() < 0.08 else self._phrase(key, rng)
            return augment(phrase, rng), ()
        if key == self._taxonomy.clean:
            return augment(self._phrase(key, rng), rng), (key,)
        if rng.random() < 0.03:
            return augment(self._taxonomy.prompt(key), rng), (key,)
        keys = [key]
        parts = [self._phrase(key, rng)]
        if rng.random() < self._recipe.pairs:
            other = rng.choice([d.key for d in self._taxonomy if d.key != key])
            keys.append(other)
            parts.append(self._phrase(other, rng))
        elif rng.random() < self._recipe.chatter:
            parts.insert(rng.randrange(2), self._chatter(rng))
        return augment(rng.choice(_JOINTS).join(parts), rng), tuple(keys)

    def batch(self, rng: random.Random, size: int) -> tuple[list[str], Tensor]:
        """``size`` phrases, and targets (size, K) of 0 and 1 in softmax order."""
        targets = torch.zeros(size, len(self._taxonomy.keys))
        phrases = []
        for row in range(size):
            phrase, keys = self.draw(rng)
            phrases.append(phrase)
            for key in keys:
                targets[row, self._taxonomy.index(key)] = 1.0
        return phrases, targets

    def _phrase(self, key: str, rng: random.Random) -> str:
        languages = self._words[key]
        others = [language for language in languages if language != _ENGLISH]
        english = _ENGLISH in languages and (not others or rng.random() < _ENGLISH_SHARE)
        words = languages[_ENGLISH if english else rng.choice(others)]
        return self._corpus.draw(rng.choice(words), rng)

    def _chatter(self, rng: random.Random) -> str:
        rows = [word for word in self._words[UNKNOWN].get(_ENGLISH, []) if word.slot == "sentence"]
        return rng.choice(rows).text if rows else _gibberish(rng)


@dataclass(frozen=True, kw_only=True, slots=True)
class Scores:
    """B phrases against K templates.

    Attributes:
        cosines: (B, K).
        logits: (B, K), scale · cosine + bias.
        templates: (K, K), the cosines among the templates.
        probe: (B, K), logits from the mean token state alone.
    """

    cosines: Tensor
    logits: Tensor
    templates: Tensor
    probe: Tensor


class PhraseScorer(nn.Module):
    """The text tower and what only its training needs: sigmoid scale and bias, a probe.

    Args:
        clip: both towers; the image tower is not used.
        taxonomy: the degradations; the templates of all K keys are the classes.
    """

    def __init__(self, clip: Clip, taxonomy: Taxonomy) -> None:
        super().__init__()
        self.clip = clip
        self.log_scale = nn.Parameter(torch.tensor(math.log(clip.config["prompt_scale"])))
        self.bias = nn.Parameter(torch.tensor(float(clip.config["prompt_bias"])))
        self.probe = nn.Linear(clip.token_width, len(taxonomy.keys))
        self._sentences = taxonomy.sentences

    def forward(self, phrases: Sequence[str]) -> Scores:
        """Score B phrases against the K templates."""
        clip = self.clip
        tokens = clip.tokenizer.encode([*phrases, *self._sentences], clip.context_length)
        states, pooled = self._encode(tokens)
        phrase, template = pooled.split([len(phrases), len(self._sentences)])
        cosines = (phrase @ template.T).float()
        return Scores(
            cosines=cosines,
            logits=self.log_scale.exp() * cosines + self.bias,
            templates=(template @ template.T).float(),
            probe=self.probe(states[: len(phrases)]).float(),
        )

    def _encode(self, tokens: Tokens) -> tuple[Tensor, Tensor]:
        """Mean state of the real tokens (B, D), pooled vectors (B, E)."""
        device = self.bias.device
        states, pooled = [], []
        order = tokens.last.argsort(stable=True)
        for rows in order.chunk(_GROUPS):
            last = tokens.last[rows]
            length = int(last.max()) + 1  # padding changes nothing, so it need not be computed
            group = Tokens(tokens.ids[rows, :length].to(device), last.to(device))
            text = self.clip.encode_tokens(group)
            real = torch.arange(length, device=device) <= group.last[:, None]
            states.append((text.tokens * real[..., None]).sum(1) / real.sum(1, keepdim=True))
            pooled.append(text.pooled)
        back = order.argsort().to(device)
        return torch.cat(states)[back], torch.cat(pooled)[back]


def text_loss(
    scores: Scores, targets: Tensor, recipe: TextRecipe
) -> tuple[Tensor, dict[str, Tensor]]:
    """Sigmoid contrastive loss (arXiv:2303.15343) against the templates, and three terms beside it.

    Args:
        scores: of B phrases.
        targets: (B, K) of 0 and 1; a row of zeros names nothing.
        recipe: the weights.

    Returns:
        The loss, and its terms.
    """
    targets = targets.to(scores.logits)
    match = _bce(scores.logits, targets)
    single = (targets.sum(1) == 1).to(targets)
    align = ((1 - scores.cosines) * targets).sum(1) @ single / single.sum().clamp_min(1)
    gram = scores.templates
    off = gram - torch.eye(len(gram), device=gram.device)
    apart = (off.abs() - recipe.margin).clamp_min(0).square().sum()
    states = _bce(scores.probe, targets)
    loss = match + recipe.align * align + recipe.apart * apart + recipe.states * states
    terms = {"match": match, "align": align, "apart": apart, "states": states}
    return loss, terms


def drift(now: TextEmbedding, start: TextEmbedding) -> Tensor:
    """How far phrases have moved: mean squares of states and of the vectors' distances."""
    states = mse_loss(now.tokens.float(), start.tokens.to(now.tokens.device).float())
    return states + (now.pooled.float() - start.pooled.to(now.pooled)).square().sum(1).mean()


def train_text(
    clip: Clip,
    *,
    budget: float,
    seed: int,
    run_dir: Path,
    taxonomy: Taxonomy | None = None,
    corpus: PhraseCorpus | None = None,
    recipe: TextRecipe | None = None,
    resume: bool = False,
) -> dict[str, float]:
    """Train the text tower in place, write the towers to ``run_dir`` and measure on unseen wording.

    Args:
        clip: changed: text tower, and ``prompt_scale`` and ``prompt_bias`` of its config.
        budget: wall-clock seconds.
        seed: of the phrases.
        run_dir: gets ``config.json``, ``tokenizer.json``, ``model.safetensors``, ``metrics.json``
            and, in ``training/``, what the loop writes.
        taxonomy, corpus: the shipped ones by default.
        recipe: what is drawn and how the terms weigh.
        resume: go on where a run in the same folder stopped.

    Returns:
        The metrics of `measure`, also written.
    """
    taxonomy = taxonomy or load_taxonomy()
    recipe = recipe or TextRecipe()
    sampler = PhraseSampler(corpus or load_phrases(), taxonomy, recipe)
    scorer = PhraseScorer(clip, taxonomy)
    start = None
    if recipe.keep:
        with torch.no_grad():
            start = clip.encode_text(taxonomy.sentences)
    learnt = {id(parameter) for parameter in clip.text_parameters()}
    frozen = [p for p in clip.parameters() if p.requires_grad and id(p) not in learnt]
    for parameter in frozen:
        parameter.requires_grad_(False)

    def loss(
        model: nn.Module, generator: torch.Generator, _: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        rng = random.Random(int(torch.randint(2**62, (), generator=generator)))
        phrases, targets = sampler.batch(rng, recipe.batch)
        value, terms = text_loss(model(phrases), targets, recipe)
        if start is not None:
            terms["keep"] = drift(clip.encode_text(taxonomy.sentences), start)
            value = value + recipe.keep * terms["keep"]
        return value, {name: term.detach() for name, term in terms.items()}

    options = LoopOptions(
        budget=budget,
        max_steps=recipe.max_steps,
        learning_rate=recipe.learning_rate,
        precision=recipe.precision,
        seed=seed,
        resume=resume,
        weight_decay=0.05,
        ema=0.99,
    )
    try:
        fit(scorer, loss, options, run_dir / "training")
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)
    clip.config["prompt_scale"] = float(scorer.log_scale.detach().exp())
    clip.config["prompt_bias"] = float(scorer.bias.detach())
    clip.eval()
    heldout = {k: v for k, v in load_heldout().items() if k in taxonomy or k == UNKNOWN}
    metrics = measure(clip, taxonomy, heldout)
    if not processes().is_main_process:
        return metrics
    clip.save(run_dir)
    (run_dir / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    return metrics


@torch.inference_mode()
def measure(
    clip: Clip, taxonomy: Taxonomy, phrases: Mapping[str, Sequence[str]]
) -> dict[str, float]:
    """How well phrases are understood.

    Args:
        clip: the trained towers.
        taxonomy: the degradations.
        phrases: by key; those of "unknown" must be refused.

    Returns:
        ``accuracy`` (nearest degradation, over all phrases that name one), ``accepted`` (the same
        and above the threshold of ½), ``refused`` (share of unknown phrases below it),
        ``accuracy/<key>``, and ``template_cosine``, the largest between two templates.
    """
    known = [index for index, key in enumerate(taxonomy.keys) if key != taxonomy.clean]
    templates = clip.encode_text(taxonomy.sentences).pooled.cpu()
    gram = templates @ templates.T
    metrics = {"template_cosine": float((gram - 2 * torch.eye(len(gram))).max())}
    right = accepted = total = 0
    for key, rows in phrases.items():
        cosines = clip.encode_text(rows).pooled.cpu() @ templates.T
        probabilities = torch.sigmoid(
            clip.config["prompt_scale"] * cosines + clip.config["prompt_bias"]
        )
        best, place = probabilities[:, known].max(1)
        if key == UNKNOWN:
            metrics["refused"] = float((best < 0.5).float().mean())
            continue
        hit = place == known.index(taxonomy.index(key))
        metrics[f"accuracy/{key}"] = float(hit.float().mean())
        right += int(hit.sum())
        accepted += int((hit & (best >= 0.5)).sum())
        total += len(rows)
    metrics["accuracy"] = right / max(total, 1)
    metrics["accepted"] = accepted / max(total, 1)
    return metrics


def _bce(logits: Tensor, targets: Tensor) -> Tensor:
    """Binary cross entropy, summed over the classes, mean over the phrases."""
    return binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(1).mean()


def _gibberish(rng: random.Random) -> str:
    """Words that no language has."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    return " ".join(
        "".join(rng.choices(letters, k=rng.randint(1, 9))) for _ in range(rng.randint(1, 5))
    )
