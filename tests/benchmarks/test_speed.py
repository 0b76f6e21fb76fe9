import sys
from pathlib import Path

import pytest
import torch

from autodir.errors import ConfigError


def test_yardstick_is_the_published_17_million(program):
    with torch.device("meta"):
        network = program("speed/one_round").yardstick()
    assert sum(weight.numel() for weight in network.parameters()) == pytest.approx(17.1e6, rel=0.01)


def test_jobs_take_turns_and_warm_up_is_not_timed(program):
    order = []
    jobs = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    times = program("speed/one_round").interleave(jobs, repeats=3, warmup=2)
    assert order == ["a", "b"] * 5
    assert {name: len(values) for name, values in times.items()} == {"a": 3, "b": 3}


def test_share_is_taken_of_the_faster_yardstick(program):
    times = {
        "NAFNet 17 M": [2.0, 2.0, 9.0],
        "NAFNet 17 M, channels last": [1.0, 1.0, 1.0],
        "one round": [0.5, 0.5, 3.0],
    }
    table = program("speed/one_round").tabulate(times)
    assert table["ratio"] == 0.5
    assert table["rows"][-1] == ["one round", "0.500", "0.500", "0.50"]


def test_sample_photo_is_noisy_and_repeatable(program):
    module = program("speed/one_round")
    photo = module.sample_photo(64, 96)
    assert photo.shape == (1, 3, 64, 96)
    assert torch.equal(photo, module.sample_photo(64, 96))
    assert float((photo[..., 1:] - photo[..., :-1]).std()) * 255 > 20


@pytest.mark.parametrize("megapixels", [0.25, 2, 24])
def test_sizes_are_three_by_four_and_as_large_as_named(program, megapixels):
    height, width = program("speed/pixels").size_of(megapixels)
    assert height * width == pytest.approx(megapixels * 1e6, rel=0.01)
    assert width / height == pytest.approx(4 / 3, rel=0.01)


def test_table_of_sizes_tells_how_far_from_linear(program):
    measured = [
        {"megapixels": 1.0, "size": [866, 1155], "seconds": 2.0, "peak_memory_bytes": 1 << 20},
        {"megapixels": 2.0, "size": [1225, 1633], "seconds": 6.0, "peak_memory_bytes": None},
    ]
    rows = program("speed/pixels").tabulate(measured)["rows"]
    assert rows[0] == ["1 (866×1155)", "2.00", "2.00", "1", "1.00"]
    assert rows[1] == ["2 (1225×1633)", "6.00", "3.00", "", "1.50"]


def test_photos_of_a_folder_all_differ(program, tmp_path):
    program("speed/folder").make_photos(tmp_path / "photos", 5, 16)
    files = sorted((tmp_path / "photos").iterdir())
    assert len({path.read_bytes() for path in files}) == 5


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="there is no /proc here")
def test_a_run_is_watched_until_it_ends(program, tmp_path):
    ledger = tmp_path / "ledger"
    code = (
        f"import pathlib, time; path = pathlib.Path({str(ledger)!r}); path.write_text('1\\n2\\n');"
        "time.sleep(0.5); path.write_text('1\\n2\\n3\\n'); time.sleep(0.5)"
    )
    curve = program("speed/folder").watch([sys.executable, "-c", code], ledger, 0.05)
    assert [curve[0]["photos"], curve[-1]["photos"]] == [2, 3]
    assert min(point["bytes"] for point in curve) > 1 << 20
    with pytest.raises(ConfigError, match="code 3"):
        program("speed/folder").watch([sys.executable, "-c", "raise SystemExit(3)"], ledger, 0.05)


def test_growth_is_that_of_the_peak_after_half_of_the_photos(program):
    sizes = [100, 110, 110, 110, 110, 110, 121, 110, 110, 110]
    curve = [
        {"seconds": 2.0 * (i + 1), "photos": 10 * (i + 1), "bytes": size << 20}
        for i, size in enumerate(sizes)
    ]
    table = program("speed/folder").tabulate(curve, 100)
    assert table["growth_after_half"] == pytest.approx(0.1)
    assert table["growth_after_tenth"] == pytest.approx(0.21)
    assert table["rows"][0] == ["10", "2.0", "5.0", "100"]
    assert table["rows"][-1] == ["100", "20.0", "5.0", "110"]
    assert len(table["rows"]) == 10
