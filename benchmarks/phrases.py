"""How well prompts are understood whose wording was never learnt: ``python benchmarks/phrases.py``.

Apart from the suites because no picture takes part. Two questions: what the model's own tower makes
of `prompts/heldout.toml`, and what a tower makes of whole synonyms that were kept from it; for the
second one a fresh tower is trained on the rest of the corpus.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from autodir.builders import PARTS_SMALL, build
from autodir.checkpoint import info, load_model
from autodir.evaluation.provenance import circumstances
from autodir.evaluation.suite import SCHEMA, result_path, write_result
from autodir.phrases import UNKNOWN, PhraseCorpus
from autodir.prompts import Taxonomy, load_heldout, load_phrases, load_taxonomy
from autodir.training.text import measure, train_text

RESULTS = Path(__file__).resolve().parent / "results"
OWN, KEPT = "own tower, sentences of heldout.toml", "fresh tower, synonyms and frames kept from it"


def kept_phrases(
    held: PhraseCorpus, taxonomy: Taxonomy, count: int, seed: int = 0
) -> dict[str, list[str]]:
    """``count`` phrases of each key from words and frames that were held out, without slips."""
    rng = random.Random(seed)
    phrases = {}
    for key in (*(one.key for one in taxonomy), UNKNOWN):
        words = [word for word in held.words if word.key == key]
        if words:
            phrases[key] = [held.draw(rng.choice(words), rng) for _ in range(count)]
    return phrases


def rows_of(
    name: str, phrases: Mapping[str, Sequence[str]], found: Mapping[str, float]
) -> list[Any]:
    """The cells of one test: its size, the totals, and the weakest degradation."""
    each = {key: value for key, value in found.items() if key.startswith("accuracy/")}
    weakest = min(each, key=lambda key: each[key])
    known = sum(len(rows) for key, rows in phrases.items() if key != UNKNOWN)
    return [
        name, str(known), f"{found['accuracy']:.1%}", f"{found['accepted']:.1%}",
        f"{found['refused']:.1%}" if "refused" in found else "",
        f"{weakest.removeprefix('accuracy/')} {each[weakest]:.1%}",
    ]  # fmt: skip


def report(
    rows: Sequence[Sequence[Any]], details: Mapping[str, Any], sha256: str
) -> dict[str, Any]:
    """The result file."""
    return {
        "schema": SCHEMA,
        "suite": "phrases",
        "title": "Prompts in words that were never learnt",
        "kind": "speed",
        "model": {"name": "small", "sha256": sha256},
        "circumstances": circumstances(),
        "columns": ["", "phrases", "right", "right and accepted", "unknown refused", "weakest"],
        "rows": [list(row) for row in rows],
        "notes": [
            "Right: the nearest template is that of the degradation. Accepted: its probability is "
            "½ or more, as `--prompt` demands. Unknown: phrases that name no degradation."
        ],
        "details": dict(details),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="small")
    parser.add_argument("--budget", type=float, default=270, help="seconds for the fresh tower")
    parser.add_argument("--holdout", type=float, default=0.15, help="share of words kept from it")
    parser.add_argument("--count", type=int, default=200, help="phrases of each degradation")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    taxonomy = load_taxonomy()
    heldout = {k: v for k, v in load_heldout().items() if k in taxonomy or k == UNKNOWN}
    own = measure(load_model(options.model).clip, taxonomy, heldout)
    rows, details = [rows_of(OWN, heldout, own)], {OWN: own}
    if options.budget > 0:
        learnt, held = load_phrases().split(options.seed, options.holdout)
        phrases = kept_phrases(held, taxonomy, options.count, options.seed)
        clip = build(PARTS_SMALL, taxonomy, scale="small", seed=options.seed).clip
        with tempfile.TemporaryDirectory() as folder:
            train_text(
                clip, budget=options.budget, seed=options.seed, run_dir=Path(folder), corpus=learnt,
                taxonomy=taxonomy,
            )  # fmt: skip
        fresh = measure(clip, taxonomy, phrases)
        rows.append(rows_of(KEPT, phrases, fresh))
        details[KEPT] = fresh | {"budget": options.budget, "threads": torch.get_num_threads()}
    result = report(rows, details, info(options.model).sha256)
    write_result(result, result_path(options.out, result))
    for row in rows:
        print("  ".join(row))
    return 0


if __name__ == "__main__":
    sys.exit(main())
