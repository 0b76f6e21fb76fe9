import pytest

from autodir.evaluation.datasets import SetSpec
from autodir.evaluation.recognition import recognize, tabulate
from autodir.prompts import load_taxonomy

LABELS = load_taxonomy().keys


def row(true, named, *, synthetic=False):
    right = named in true if true else named == "no"
    return {
        "set": "set",
        "true": true,
        "named": named,
        "argmax": named,
        "right": right,
        "synthetic": synthetic,
    }


def test_shares_are_counted_apart_for_degraded_and_clean():
    rows = [row(["rain"], "rain"), row(["rain"], "noise"), row([], "no"), row([], "rain")]
    rows += [row(["haze"], "haze", synthetic=True)] * 2
    found = tabulate(rows, LABELS, "no")
    assert found["accuracy"] == 0.75
    assert found["real"] == 0.5
    assert found["synthetic"] == 1
    assert found["false_alarms"] == 0.5
    assert (found["pictures"], found["clean_pictures"]) == (4, 2)


def test_confusion_has_true_labels_as_rows():
    found = tabulate([row(["rain"], "noise"), row([], "no")], LABELS, "no")
    matrix = found["confusion"]
    assert matrix[LABELS.index("rain")][LABELS.index("noise")] == 1
    assert matrix[LABELS.index("no")][LABELS.index("no")] == 1
    assert sum(map(sum, matrix)) == 2


def test_either_of_two_degradations_is_right_and_stays_out_of_the_matrix():
    found = tabulate([row(["rain", "haze"], "haze")], LABELS, "no")
    assert found["accuracy"] == 1
    assert sum(map(sum, found["confusion"])) == 0


def test_nothing_to_judge_gives_no_share():
    found = tabulate([], LABELS, "no")
    assert found["accuracy"] is found["false_alarms"] is found["interval"] is None


def test_pictures_are_diagnosed_and_judged(data, restorer):
    specs = [
        SetSpec(name="dark", folders=("LOL_eval15",)),
        SetSpec(name="rain", folders=("Rain_real",)),
        SetSpec(name="clean", folders=("CBSD68",)),
    ]
    found = recognize(specs, data / "eval", restorer)
    assert found["sets"]["dark"] == {"accuracy": 1.0, "pictures": 3}
    assert found["sets"]["rain"]["accuracy"] == 0
    assert found["accuracy"] == pytest.approx(0.5)
    assert found["argmax"] == pytest.approx(0.5)
    assert found["false_alarms"] == 0
    assert restorer.calls == []
