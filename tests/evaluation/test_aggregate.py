import pytest

from autodir.evaluation.aggregate import bootstrap_interval, mean, overall, summarize


def row(case, psnr, **values):
    return {"case": case, "psnr": psnr, "ssim": 0.5, "seconds": 1.0, "changed": True} | values


def test_mean_passes_over_what_is_missing():
    assert mean([1.0, None, 3.0]) == 2
    assert mean([None]) is None


def test_interval_holds_the_mean_and_repeats():
    values = [1.0, 2.0, 3.0, 4.0, 10.0]
    low, high = bootstrap_interval(values)
    assert low < 4 < high
    assert (low, high) == bootstrap_interval(values)


def test_interval_narrows_with_more_values():
    few, many = [0.0, 1.0] * 3, [0.0, 1.0] * 60
    width = [high - low for low, high in map(bootstrap_interval, (few, many))]
    assert width[1] < width[0] / 3


def test_one_value_has_no_interval():
    assert bootstrap_interval([1.0]) is None


def test_gain_and_harm_are_counted_against_the_input():
    inputs = {name: row(name, 20.0) for name in "abcd"}
    rows = [row("a", 25.0), row("b", 19.0), row("c", 19.995), row("d", 20.0, changed=False)]
    figures = summarize(rows, inputs)
    assert figures["psnr"] == pytest.approx(20.99875)
    assert figures["gain"] == pytest.approx(0.99875)
    assert figures["harmed"] == 0.25
    assert figures["untouched"] == 0.25
    assert figures["cases"] == 4


def test_pictures_without_target_have_no_gain():
    figures = summarize([row("a", None, ssim=None)], {})
    assert figures["psnr"] is figures["gain"] is figures["harmed"] is None
    assert figures["seconds"] == 1


def test_learned_metrics_are_averaged():
    rows = [row("a", 1.0, metrics={"lpips": 0.2}), row("b", 1.0, metrics={"lpips": 0.4})]
    assert summarize(rows, {})["metrics"] == {"lpips": pytest.approx(0.3)}


def test_sets_count_alike_for_gain_and_pictures_for_harm():
    inputs = {str(index): row(str(index), 20.0) for index in range(9)}
    good = summarize([row(str(index), 22.0) for index in range(9)], inputs)
    bad = summarize([row("0", 19.0)], inputs)
    totals = overall({"good": {"x": good}, "bad": {"x": bad}}, "x")
    assert totals["gain"] == pytest.approx(0.5)
    assert totals["worst_gain"] == pytest.approx(-1)
    assert totals["harmed"] == pytest.approx(0.1)
