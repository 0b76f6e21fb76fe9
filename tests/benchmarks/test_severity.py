"""Scores of severity: ranks with ties, groups, and samples that survive their file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import torch

from autodir.records import Severity
from autodir.training.severity import Sample
from benchmarks.severity import rank_correlation, read, report, save, score


class Oracle:
    """Reads noise off the first measure, always one too high."""

    def read(self, measures: torch.Tensor) -> dict[str, Severity]:
        value = float(measures[0]) + 1
        return {"noise": Severity(value=value, error=2.0, unit="levels")}


def sample(sigma: float, *others: str) -> Sample:
    return Sample(
        measures=torch.tensor([sigma]), truth={"noise": sigma}, applied=("noise", *others)
    )


def test_ranks_do_not_care_about_scale_and_share_ties() -> None:
    a = torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert rank_correlation(a, a.exp()) == pytest.approx(1)
    assert rank_correlation(a, -a) == pytest.approx(-1)
    assert rank_correlation(a, torch.tensor([1.0, 1.0, 2.0, 2.0])) == pytest.approx(0.894, abs=1e-3)


def test_photos_with_one_degradation_are_counted_apart() -> None:
    samples = [sample(1), sample(5), sample(9), sample(2, "blur"), sample(3, "blur")]
    figures = score(cast("Any", Oracle()), samples)
    assert figures["noise"]["single"] == {
        "photos": 3,
        "rank": pytest.approx(1),
        "error": pytest.approx(1),
        "covered": 1.0,
        "unit": "levels",
    }
    assert figures["noise"]["mixed"] is None
    assert figures["haze"] == {"single": None, "mixed": None}
    rows = report(figures, {"fit": 5})["rows"]
    assert rows == [["noise", "single", "3", "1.000", "1.00 levels", "100%"]]


def test_samples_survive_their_file(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    save([sample(1.5, "haze"), sample(2.5)], path)
    again = read([path, path])
    assert [one.truth["noise"] for one in again] == [1.5, 2.5, 1.5, 2.5]
    assert again[0].applied == ("noise", "haze")
    assert torch.equal(again[0].measures, torch.tensor([1.5]))
