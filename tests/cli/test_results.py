"""Where results go: folders, templates, stdout, and the bytes of what did not change."""

from __future__ import annotations

from pathlib import Path

import pytest

from autodir.batch.local import Source
from autodir.cli.inputs import Input
from autodir.cli.results import Results, goes_to_stdout, ledger_folder
from autodir.config import OutputOptions
from autodir.errors import ConfigError, ImageError


def inputs(*paths: Path) -> list[Input]:
    return [Input(source=Source(path=path)) for path in paths]


@pytest.mark.parametrize(
    ("names", "output", "dry_run", "expected"),
    [
        (["-"], None, False, True),
        (["a.png"], "-", False, True),
        (["-"], "a.png", False, False),
        (["a.png"], None, False, False),
        (["-"], None, True, False),
    ],
)
def test_stdout_takes_what_stdin_gave_or_what_is_sent_there(
    names: list[str], output: str | None, dry_run: bool, expected: bool
) -> None:
    options = OutputOptions(output=output, dry_run=dry_run)
    assert goes_to_stdout(names, options) is expected


def test_the_folder_of_the_output_is_made_before_the_work(dark: Path) -> None:
    folder = dark.parent / "new/deep"
    Results(inputs(dark), OutputOptions(output=f"{folder}/"))
    assert folder.is_dir()


def test_a_dry_run_makes_no_folder(dark: Path) -> None:
    folder = dark.parent / "new"
    Results(inputs(dark), OutputOptions(output=f"{folder}/", dry_run=True))
    assert not folder.exists()


def test_the_part_of_a_template_that_depends_on_the_photo_is_not_made(dark: Path) -> None:
    folder = dark.parent / "new"
    Results(inputs(dark), OutputOptions(output=f"{folder}/{{degradations}}/{{stem}}{{ext}}"))
    assert folder.is_dir()
    assert list(folder.iterdir()) == []


def test_a_file_in_the_way_of_the_folder_is_an_image_error(dark: Path) -> None:
    (dark.parent / "taken").write_bytes(b"")
    with pytest.raises(ImageError):
        Results(inputs(dark), OutputOptions(output=str(dark.parent / "taken/out") + "/"))


def test_one_file_cannot_hold_several_results(dark: Path, good: Path) -> None:
    with pytest.raises(ConfigError):
        Results(inputs(dark, good), OutputOptions(output="out.png"))


def test_the_name_beside_the_photo_can_be_chosen(dark: Path) -> None:
    results = Results(inputs(dark), OutputOptions(), beside=".degraded.png")
    assert results.place(inputs(dark)[0]) == dark.with_name("dark.degraded.png")


@pytest.mark.parametrize(
    ("output", "folder"),
    [
        (None, "album"),
        ("out", "out"),
        ("out/", "out"),
        ("out/{stem}{ext}", "out"),
        ("out/{degradations}/{stem}{ext}", "out"),
        ("{stem}.fixed{ext}", "."),
        ("one.png", "."),
    ],
)
def test_one_ledger_serves_all_results_of_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str | None, folder: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    source = Source(path=Path("album/deep/a.png"), folder=Path("album"))
    assert ledger_folder(Input(source=source), OutputOptions(output=output)) == Path(folder)
