"""Where the shipped data is found."""

from pathlib import Path

import pytest

from autodir import resources
from autodir.errors import ConfigError


def test_prompts_lie_where_resources_looks() -> None:
    assert (resources.prompts_dir() / "taxonomy.toml").is_file()


def test_checkpoints_folder_is_a_sibling_of_prompts_in_the_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "checkpoints").mkdir()
    monkeypatch.setattr(resources, "_PACKAGE", tmp_path / "autodir")
    assert resources.checkpoints_dir() == tmp_path / "checkpoints"


def test_folder_inside_the_package_wins_over_the_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = tmp_path / "autodir" / "_data" / "prompts"
    packed.mkdir(parents=True)
    (tmp_path / "prompts").mkdir()
    monkeypatch.setattr(resources, "_PACKAGE", tmp_path / "autodir")
    assert resources.prompts_dir() == packed


def test_missing_folder_is_told_with_both_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "_PACKAGE", tmp_path / "autodir")
    with pytest.raises(ConfigError, match="'prompts' is missing") as caught:
        resources.prompts_dir()
    assert str(tmp_path / "prompts") in caught.value.message
    assert caught.value.hint
