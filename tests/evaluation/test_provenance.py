import json
import shutil

from autodir.evaluation import provenance


def test_circumstances_are_json_able_and_complete():
    about = json.loads(json.dumps(provenance.circumstances()))
    assert set(about) == {"commit", "code_sha256", "time", "hardware", "versions"}
    assert about["hardware"]["cores"] >= 1
    assert about["versions"]["torch"]


def test_commit_is_unknown_without_git(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert provenance.commit() == "unknown"


def test_code_digest_repeats():
    assert provenance.code_digest() == provenance.code_digest()
    assert len(provenance.code_digest()) == 64


def test_peak_memory_is_in_bytes():
    assert provenance.peak_memory() > 10_000_000
