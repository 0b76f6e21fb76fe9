"""Some hundred damaged files through the whole path, and the counting of those that fail."""

import io
import json
import sys

import pytest

from autodir.errors import ImageError
from autodir.imaging.io import read

FILES = 400


@pytest.fixture
def fuzz(program):
    return program("fuzz")


def test_damaged_files_are_restored_or_refused_and_nothing_else(fuzz, tmp_path):
    outcomes = [fuzz.judge(fuzz.damaged(1, index)[1], tmp_path) for index in range(FILES)]
    assert [one for one in outcomes if one[0] not in fuzz.GOOD] == []
    assert {one[0] for one in outcomes} == set(fuzz.GOOD)
    assert all(why for outcome, why in outcomes if outcome == "refused")


def test_whole_files_are_restored_or_refused_for_what_they_are(fuzz, tmp_path):
    for name, data in fuzz.corpus().items():
        if name in ("RAW", "HEIF", "HEIF-deep"):
            pytest.importorskip({"RAW": "rawpy"}.get(name, "pillow_heif"))
        outcome, why = fuzz.judge(data, tmp_path)
        expected = "refused" if name.endswith("-many") else "restored"
        assert (outcome, name) == (expected, name), why


def test_damage_is_the_same_for_the_same_numbers_and_another_for_others(fuzz):
    files = [fuzz.damaged(7, index) for index in range(100)]
    assert files == [fuzz.damaged(7, index) for index in range(100)]
    assert files != [fuzz.damaged(8, index) for index in range(100)]
    whole = fuzz.corpus()
    assert sum(data != whole[name] for name, data in files) > 90


def test_damage_gets_past_the_check_sums_of_a_png(fuzz):
    data = bytearray(fuzz.corpus()["PNG-RGB"])
    data[19] += 1  # one column more than there is
    with pytest.raises(ImageError) as by_check_sum:
        read(bytes(data))
    mended = fuzz._with_checks(bytes(data))
    assert mended != bytes(data)
    assert len(mended) == len(data)
    with pytest.raises(ImageError) as by_content:
        read(mended)
    assert by_content.value.message != by_check_sum.value.message


def test_an_exception_of_another_family_is_found(fuzz, tmp_path, monkeypatch):
    def fail(data, max_pixels):
        raise KeyError("lost")

    monkeypatch.setattr(fuzz, "read", fail)
    assert fuzz.judge(b"", tmp_path) == ("escaped", "KeyError: 'lost'")


def test_a_result_of_another_size_and_one_left_unfinished_are_found(fuzz, tmp_path, monkeypatch):
    photo, other = (fuzz.corpus()[name] for name in ("PNG-RGB", "PPM-text"))
    monkeypatch.setattr(fuzz, "encode", lambda photo: other)
    assert fuzz.judge(photo, tmp_path)[0] == "partial"
    monkeypatch.setattr(fuzz, "encode", lambda photo: b"half a file")
    assert fuzz.judge(photo, tmp_path)[0] == "partial"
    (tmp_path / ".autodir-1.tmp").touch()
    assert fuzz.judge(b"no photo", tmp_path) == ("partial", "left .autodir-1.tmp")


def test_a_worker_writes_one_line_for_each_file(fuzz):
    lines = io.StringIO()
    fuzz.work(0, range(5, 9), 60.0, lines)
    ready, *found = [json.loads(line) for line in lines.getvalue().splitlines()]
    assert ready == {}
    assert [one["index"] for one in found] == [5, 6, 7, 8]
    assert {one["outcome"] for one in found} <= set(fuzz.GOOD)


SCRIPT = """
import json, os, signal, sys, time
print("{}", flush=True)
for index in range(int(sys.argv[1]), int(sys.argv[2])):
    signal.setitimer(signal.ITIMER_PROF, 0.2)
    if index == 2:
        os.abort()
    while index == 4:
        pass
    signal.setitimer(signal.ITIMER_PROF, 0)
    print(json.dumps({"index": index, "outcome": "refused"}), flush=True)
"""


def test_workers_that_die_or_hang_are_counted_and_replaced(fuzz):
    def command(start: int, stop: int) -> list[str]:
        return [sys.executable, "-c", SCRIPT, str(start), str(stop)]

    found = [one["outcome"] for one in fuzz.watch(command, 0, 6, 10.0)]
    assert found == ["refused", "refused", "died", "refused", "hung", "refused"]


def test_a_worker_that_does_not_start_is_no_finding(fuzz):
    with pytest.raises(RuntimeError, match="does not start"):
        list(fuzz.watch(lambda start, stop: [sys.executable, "-c", "1 / 0"], 0, 2, 10.0))


def test_the_table_counts_by_kind_and_keeps_what_failed(fuzz):
    names = list(fuzz.corpus())
    files = [
        {"index": 0, "name": names[0], "outcome": "restored", "seconds": 0.5},
        {"index": len(names), "outcome": "died", "why": "exit -11"},
    ]
    table = fuzz.tabulate(files, seed=3)
    assert table["columns"] == ["file", "died", "refused", "restored"]
    assert table["rows"] == [[names[0], "1", "0", "1"]]
    assert table["failures"] == [files[1]]
    assert (table["files"], table["seed"], table["slowest_seconds"]) == (2, 3, 0.5)
