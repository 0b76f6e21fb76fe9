"""Does the diagnoser name what is wrong? Accuracy, confusions, false alarms on clean photos.

Apart from the restoration scores because only the first look at a photo is judged here.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from autodir.evaluation.aggregate import bootstrap_interval, mean
from autodir.evaluation.datasets import FOLDERS, Case, SetSpec, load_set
from autodir.evaluation.systems import Repairer
from autodir.prompts import load_taxonomy
from autodir.records import Diagnosis, Image

_LOG_EVERY = 20.0

_log = logging.getLogger(__name__)


def recognize(
    specs: Sequence[SetSpec],
    root: Path,
    restorer: Repairer,
    *,
    seed: int = 0,
    limit: int | None = None,
) -> dict[str, Any]:
    """Diagnose every labeled picture once.

    A prediction is right where the degradation to repair first is one of those that happened, or
    where nothing is found in a clean photo. Pictures without a known label are passed over.

    Args:
        specs: the sets.
        root: the folder that holds them.
        restorer: whose diagnosis is judged.
        seed: of synthetic degradations.
        limit: at most so many pictures of each folder.

    Returns:
        ``accuracy`` over degraded pictures with ``interval``, ``real`` and ``synthetic`` accuracy,
        ``argmax`` (the softmax alone, without thresholds), ``false_alarms`` over clean ones,
        ``labels`` and ``confusion`` (rows true, columns named, single labels only), ``sets``,
        ``rows``.
    """
    rows, spoken = [], time.monotonic()
    for spec in specs:
        for case in load_set(spec, root, seed, limit):
            if case.degradations is not None:
                rows.append(_judge(case, spec, restorer))
            if time.monotonic() - spoken > _LOG_EVERY:
                spoken = time.monotonic()
                _log.info("%d pictures diagnosed, now at %s", len(rows), case.name)
    return tabulate(rows, load_taxonomy().keys, load_taxonomy().clean)


def tabulate(
    rows: Sequence[Mapping[str, Any]], labels: Sequence[str], clean: str
) -> dict[str, Any]:
    """Count rows of ``set true named argmax right synthetic``, see `recognize` for the result."""
    degraded = [row for row in rows if row["true"]]
    untouched = [row for row in rows if not row["true"]]
    single = [row for row in rows if len(row["true"]) < 2]
    counts = Counter((row["true"][0] if row["true"] else clean, row["named"]) for row in single)
    return {
        "accuracy": _share(degraded),
        "interval": bootstrap_interval([float(row["right"]) for row in degraded]),
        "real": _share([row for row in degraded if not row["synthetic"]]),
        "synthetic": _share([row for row in degraded if row["synthetic"]]),
        "argmax": mean(float(row["argmax"] in row["true"]) for row in degraded),
        "pictures": len(degraded),
        "false_alarms": mean(float(not row["right"]) for row in untouched),
        "clean_pictures": len(untouched),
        "labels": list(labels),
        "confusion": [[counts[true, named] for named in labels] for true in labels],
        "sets": {
            name: {"accuracy": _share(own), "pictures": len(own)}
            for name in dict.fromkeys(row["set"] for row in rows)
            if (own := [row for row in rows if row["set"] == name])
        },
        "rows": list(rows),
    }


def _judge(case: Case, spec: SetSpec, restorer: Repairer) -> dict[str, Any]:
    started = time.perf_counter()
    with torch.inference_mode():
        diagnosis = restorer.diagnose(Image(pixels=case.input[0]))
    true = list(case.degradations or ())
    named = _named(diagnosis)
    return {
        "set": case.set,
        "case": case.name,
        "true": true,
        "named": named,
        "argmax": max(diagnosis.probabilities, key=lambda key: diagnosis.probabilities[key]),
        "right": named in true if true else diagnosis.is_clean,
        "presence": {key: round(float(value), 4) for key, value in diagnosis.presence.items()},
        "synthetic": FOLDERS[spec.folders[0]].kind == "clean",
        "seconds": time.perf_counter() - started,
    }


def _named(diagnosis: Diagnosis) -> str:
    return load_taxonomy().clean if diagnosis.main is None else diagnosis.main.key


def _share(rows: Sequence[Mapping[str, Any]]) -> float | None:
    return mean(float(row["right"]) for row in rows)
