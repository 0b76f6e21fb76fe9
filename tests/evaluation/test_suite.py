import json
import logging

import pytest
import torch

from autodir.errors import ConfigError, ContractError
from autodir.evaluation import suite as suites
from autodir.evaluation.suite import run_suite
from autodir.evaluation.systems import SYSTEMS, Answer

SUITE = """
schema = 1
title = "Mine"
systems = ["input", "classical", "both", "whole", "whole_no_guard"]
[[set]]
folders = ["LOL_eval15"]
goal_psnr = 20.0
[[set]]
name = "CBSD68 σ"
folders = ["CBSD68"]
recipe = "gaussian"
levels = [25]
limit = 2
[[set]]
folders = ["Rain_real"]
"""


@pytest.fixture
def mine(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(SUITE, encoding="utf-8")
    return path


def test_scores_are_summed_up_by_set_and_system(mine, data, restorer):
    result = run_suite(mine, data, restorer)
    assert list(result["sets"]) == ["LOL_eval15", "CBSD68 σ 25", "Rain_real"]
    dark = result["sets"]["LOL_eval15"]
    assert dark["input"]["gain"] == 0
    assert dark["whole"]["gain"] > 5
    assert dark["whole"]["psnr"] == pytest.approx(dark["input"]["psnr"] + dark["whole"]["gain"])
    assert dark["whole"]["harmed"] == dark["whole"]["untouched"] == 0
    assert result["sets"]["CBSD68 σ 25"]["whole"]["untouched"] == 1
    assert result["sets"]["Rain_real"]["whole"]["psnr"] is None
    assert result["goals"]["LOL_eval15"] == {"psnr": 20.0, "gain": None}
    assert len(result["rows"]) == (3 + 2 + 3) * 5


def test_written_result_equals_the_returned_one(mine, data, restorer, tmp_path):
    result = run_suite(mine, data, restorer, out=tmp_path / "results")
    (path,) = (tmp_path / "results/mine").iterdir()
    assert json.loads(path.read_text("utf-8")) == json.loads(json.dumps(result))
    assert result["model"]["name"] == "fake"
    assert path.stem.endswith(result["circumstances"]["commit"])


def test_results_are_never_replaced(mine, data, tmp_path):
    for _ in range(3):
        run_suite(mine, data, None, systems=["input"], out=tmp_path / "results", limit=1)
    assert len(list((tmp_path / "results/mine").iterdir())) == 3


def test_result_may_be_one_named_file(mine, data, tmp_path):
    path = tmp_path / "there/one.json"
    run_suite(mine, data, None, systems=["classical"], out=path, limit=1)
    assert [entry.name for entry in path.parent.iterdir()] == ["one.json"]


def test_stopped_run_goes_on_where_it_was(mine, data, restorer, tmp_path, monkeypatch):
    out = tmp_path / "results"
    expected = run_suite(mine, data, restorer)
    calls = []

    def failing(someone, case, seed):
        calls.append(case.name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return whole(someone, case, seed)

    whole = SYSTEMS["whole"]
    monkeypatch.setitem(SYSTEMS, "whole", failing)
    with pytest.raises(KeyboardInterrupt):
        run_suite(mine, data, restorer, out=out)
    (journal,) = (out / "mine").iterdir()
    with journal.open("a", encoding="utf-8") as file:
        file.write('{"set": "LOL_ev')  # what a kill leaves behind
    result = run_suite(mine, data, restorer, out=out)
    assert calls.count("LOL_eval15/0") == 1
    assert not journal.exists()

    def plain(rows):
        return [{key: row[key] for key in row if key != "seconds"} for row in rows]

    assert plain(result["rows"]) == plain(expected["rows"])


def test_other_model_does_not_go_on_with_a_strange_journal(mine, data, restorer, tmp_path):
    plan = suites.load_suite(mine)
    first = suites._journal_path(tmp_path, plan, {"model_sha256": "a"})
    other = suites._journal_path(tmp_path, plan, {"model_sha256": "b"})
    assert first != other


def test_limit_and_sets_narrow_a_run(mine, data):
    result = run_suite(mine, data, None, systems=["classical"], sets=["LOL", "CBSD"], limit=1)
    assert [row["system"] for row in result["rows"]] == ["input", "classical"] * 2
    assert list(result["sets"]) == ["LOL_eval15", "CBSD68 σ 25"]


def test_recognition_suite_diagnoses_only(tmp_path, data, restorer):
    path = tmp_path / "see.toml"
    path.write_text(
        'schema = 1\nkind = "recognition"\n[[set]]\nfolders = ["LOL_eval15"]\n', "utf-8"
    )
    result = run_suite(path, data, restorer)
    assert result["recognition"]["accuracy"] == 1
    assert "rows" not in result


def test_model_column_without_a_model_is_a_config_error(mine, data):
    with pytest.raises(ConfigError, match="needs a model"):
        run_suite(mine, data, None)


def test_unknown_set_is_a_config_error(mine, data, restorer):
    with pytest.raises(ConfigError, match="no set named like"):
        run_suite(mine, data, restorer, sets=["Snow"])


def test_system_that_changes_the_size_breaks_the_contract(mine, data, restorer, monkeypatch):
    monkeypatch.setitem(SYSTEMS, "whole", lambda r, c, s: Answer(image=torch.rand(1, 3, 8, 8)))
    with pytest.raises(ContractError, match="turned"):
        run_suite(mine, data, restorer)


def test_progress_is_logged(mine, data, restorer, monkeypatch, caplog):
    monkeypatch.setattr(suites, "_LOG_EVERY", -1.0)
    with caplog.at_level(logging.INFO, logger="autodir"):
        run_suite(mine, data, restorer, limit=1)
    assert "now at LOL_eval15/0" in caplog.text
