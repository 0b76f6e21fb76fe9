"""Where the shipped data is found."""

import os
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


@pytest.mark.parametrize(
    ("level", "flags", "spared"),
    [
        (28, "fpu amx_bf16 avx512_bf16 amx_tile", True),
        (32, "fpu amx_bf16 avx512_bf16 amx_tile", False),
        (13, "fpu avx2", False),
    ],
)
def test_matrix_units_without_a_description_are_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level: int, flags: str, spared: bool
) -> None:
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\ncpuid level\t: {level}\nflags\t\t: {flags}\n\n")
    assert resources.spare_matrix_units(cpuinfo) is spared
    assert ("ONEDNN_MAX_CPU_ISA" in os.environ) is spared


def test_the_limit_of_the_user_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("cpuid level\t: 28\nflags\t\t: fpu amx_tile\n")
    assert resources.spare_matrix_units(cpuinfo)
    assert os.environ["ONEDNN_MAX_CPU_ISA"] == "AVX2"


def test_a_system_without_such_a_file_is_left_alone(tmp_path: Path) -> None:
    assert not resources.spare_matrix_units(tmp_path / "nothing")
