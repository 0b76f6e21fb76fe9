import json

import pytest

ABOUT = {
    "time": "2030-01-02T03:04:05+00:00",
    "commit": "abc1234",
    "hardware": {"gpu": None, "processor": "A processor", "threads": 2},
}


def figures(psnr, gain, **values):
    return {
        "cases": 2,
        "psnr": psnr,
        "ssim": 0.5,
        "gain": gain,
        "gain_interval": [gain - 1, gain + 1] if gain is not None else None,
        "harmed": 0.0,
        "untouched": 0.5,
        "seconds": 0.5,
        "metrics": {},
    } | values


def total(gain):
    return {"gain": gain, "worst_gain": gain, "harmed": 0.0, "seconds": 0.5}


@pytest.fixture
def restoration():
    return {
        "suite": "paired",
        "kind": "restoration",
        "model": {"name": "small", "model_sha256": "f" * 64},
        "circumstances": ABOUT,
        "limit": None,
        "sets": {
            "Rain": {"input": figures(20.0, 0.0), "whole": figures(23.0, 3.0)},
            "Haze": {"input": figures(20.0, 0.0), "whole": figures(26.0, 6.0)},
            "clean": {"input": figures(100.0, 0.0), "whole": figures(90.0, -10.0)},
            "real": {"input": figures(None, None), "whole": figures(None, None)},
        },
        "goals": {"Rain": {"psnr": 24.5, "gain": None}, "Haze": {"psnr": None, "gain": 5.0}},
        "overall": {"input": total(0.0), "whole": total(-0.5)},
    }


def store(results, result, name="a"):
    folder = results / result["suite"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(result), "utf-8")


DOCUMENT = "before\n<!-- table paired -->\nold\n<!-- end paired -->\nafter\n"


def test_table_shows_scores_gains_and_what_is_missing(program, restoration):
    lines = program("tables").restoration(restoration)
    rain = next(line for line in lines if line.startswith("| Rain (2)"))
    assert "23.00 (+3.00)" in rain
    assert "≥ 24.5 | 1.50" in rain
    assert "+2.00…+4.00" in rain
    haze = next(line for line in lines if line.startswith("| Haze"))
    assert "≥ +5.00 | met" in haze
    assert any("2030-01-02" in line and "abc1234" in line and "f" * 12 in line for line in lines)


def test_pictures_that_gain_nothing_show_how_many_are_untouched(program, restoration):
    lines = program("tables").restoration(restoration)
    for name in ("clean", "real"):
        assert any(line.startswith(f"| {name}") and "50.0 % untouched" in line for line in lines)


def test_without_targets_the_table_says_what_was_repaired(program, restoration):
    def row(place, treated):
        return {"set": place, "system": "whole", "treated": treated}

    sets = {name: {"whole": figures(None, None)} for name in ("Haze_real", "clear")}
    rows = [row("Haze_real", ["haze", "low_resolution"]), row("Haze_real", ["haze"])]
    rows += [row("Haze_real", []), row("clear", []), {**row("clear", ["rain"]), "system": "input"}]
    bare = {**restoration, "sets": sets, "rows": rows, "overall": {"whole": total(None)}}
    lines = program("tables").restoration(bare)
    assert "| Haze_real | 3 | 2 | haze 2, low resolution 1 | 0.50 |" in lines
    assert "| clear | 1 | 0 | · | 0.50 |" in lines


def test_every_row_has_as_many_cells_as_the_header(program, restoration):
    rows = [line for line in program("tables").restoration(restoration) if line.startswith("|")]
    assert len({line.count("|") for line in rows}) == 1


def test_document_is_filled_between_its_markers_and_stays_filled(program, restoration, tmp_path):
    tables = program("tables")
    store(tmp_path, restoration)
    once = tables.fill(DOCUMENT, tmp_path)
    assert once.startswith("before\n<!-- table paired -->\n")
    assert once.endswith("<!-- end paired -->\nafter\n")
    assert "old" not in once
    assert "| Rain (2)" in once
    assert tables.fill(once, tmp_path) == once


def test_newest_result_is_the_one_shown(program, restoration, tmp_path):
    tables = program("tables")
    later = restoration | {"circumstances": ABOUT | {"time": "2031-01-01", "commit": "newer00"}}
    store(tmp_path, later, "a")
    store(tmp_path, restoration, "z")
    assert "newer00" in tables.fill(DOCUMENT, tmp_path)


def test_suite_without_result_says_so(program, tmp_path):
    assert "*Not run yet.*" in program("tables").fill(DOCUMENT, tmp_path)


def test_recognition_shows_shares_and_confusion(program):
    result = {
        "model": {},
        "circumstances": ABOUT,
        "recognition": {
            "accuracy": 0.9,
            "interval": [0.8, 0.95],
            "real": 0.85,
            "synthetic": None,
            "argmax": 0.9,
            "pictures": 10,
            "false_alarms": 0.02,
            "clean_pictures": 50,
            "labels": ["rain", "no"],
            "confusion": [[9, 1], [0, 50]],
            "sets": {"wet": {"accuracy": 0.9, "pictures": 10}},
            "rows": [
                {"true": ["rain"], "presence": {"rain": 0.9, "haze": 0.01}},
                {"true": ["rain"], "presence": {"rain": 0.7, "haze": 0.03}},
                {"true": [], "presence": {"rain": 0.9, "haze": 1.0}},
            ],
        },
    }
    tables = program("tables")
    assert tables.reliability(result["recognition"]["rows"]) == [
        (0.0, 0.05, pytest.approx(0.02), 0.0, 2), (0.6, 0.8, 0.7, 1.0, 1),
        (0.8, 0.95, pytest.approx(0.9), 0.5, 2), (0.95, 1.0, 1.0, 0.0, 1),
    ]  # fmt: skip
    lines = tables.recognition(result)
    assert "| 80% to 95% | 90.0% | 50.0% | 2 |" in lines
    assert "| right label (95 %: 80.0…95.0) | 90.0 % | 10 |" in lines
    assert "| no | · | 50 |" in lines


def test_what_was_measured_is_shown_in_its_own_columns(program):
    result = {
        "model": {},
        "circumstances": ABOUT,
        "columns": ["part", "s"],
        "rows": [["both", 1.5]],
        "notes": ["A note."],
    }
    lines = program("tables").listing(result)
    assert "| both | 1.5 |" in lines
    assert "A note." in lines
    del result["notes"], result["model"]
    assert "· no model ·" in program("tables").listing(result)[-1]


@pytest.mark.parametrize("suite", ["severity", "maps", "parts", "fuzz", "speed_folder", "alarms"])
def test_every_listing_has_its_place(program, suite):
    tables = program("tables")
    result = tables.newest(tables.HERE / "results", suite)
    assert f"<!-- table {suite} -->" in (tables.HERE / "README.md").read_text("utf-8")
    assert result is None or tables.RENDERERS[result["kind"]] is tables.listing


def test_check_tells_stale_from_fresh(program, restoration, tmp_path):
    tables = program("tables")
    store(tmp_path / "results", restoration)
    document = tmp_path / "README.md"
    document.write_text(DOCUMENT, "utf-8")
    where = ["--results", str(tmp_path / "results"), "--document", str(document)]
    assert tables.main([*where, "--check"]) == 1
    assert document.read_text("utf-8") == DOCUMENT
    assert tables.main(where) == 0
    assert tables.main([*where, "--check"]) == 0


def test_published_page_is_what_the_results_say(program):
    tables = program("tables")
    page = (tables.HERE / "README.md").read_text("utf-8")
    assert tables.fill(page, tables.HERE / "results") == page
