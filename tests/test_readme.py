"""The README tells the truth: its commands and files exist, its figures come from results."""

import ast
import dataclasses
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

import autodir
from autodir.cli.app import app
from autodir.config import RestoreOptions, RuntimeOptions, flag_name
from benchmarks import tables

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = ("README.md", "checkpoints/README.md", "benchmarks/README.md", "examples/README.md")
TEST_COMMAND = "pip install nox && nox"

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`(autodir [^`\n]+)`")
LINK = re.compile(r"\]\(([^)#\s]+)\)")
GENERATED = re.compile(r"<!-- table (?P<name>\w+) -->.*?<!-- end (?P=name) -->", re.DOTALL)
FIGURE = re.compile(r"\d\.\d|\d\s*(dB|%|s\b|MB)")


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(text: str, *languages: str) -> list[str]:
    return [code for language, code in FENCE.findall(text) if language in languages]


def words_of_commands(text: str) -> Iterator[list[str]]:
    """The words behind each ``autodir`` of shell blocks and of inline code."""
    lines = [line for code in blocks(text, "bash", "sh", "console") for line in code.splitlines()]
    for line in [*lines, *INLINE.findall(text)]:
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if set(word) <= set(";&|<>()"):
                if words[:1] == ["autodir"]:
                    yield words[1:]
                words = []
            else:
                words.append(word)


CHOICES = {
    flag_name(spec): [str(choice) for choice in spec.metadata["choices"]]
    for cls in (RestoreOptions, RuntimeOptions)
    for spec in dataclasses.fields(cls)
    if spec.metadata["choices"] is not None
}
COMMANDS = sorted({tuple(words) for name in DOCUMENTS for words in words_of_commands(read(name))})


def resolve(words: tuple[str, ...]) -> tuple[Any, list[str]]:
    """The command that ``words`` call, and what follows its name."""
    command: Any = get_command(app)
    rest = list(words)
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        assert rest[0] in command.commands, f"no command {rest[0]!r}"
        command = command.commands[rest.pop(0)]
    return command, rest


def options_of(command: Any) -> dict[str, Any]:
    spelled = {
        name: param for param in command.params for name in (*param.opts, *param.secondary_opts)
    }
    return {name: param for name, param in spelled.items() if name.startswith("-")}


def test_readme_shows_commands() -> None:
    named = {words[0] for words in COMMANDS}
    assert named >= {"fix", "diagnose", "degrade", "evaluate", "train", "models", "doctor"}


def test_reader_of_commands_finds_them_between_others() -> None:
    text = '```bash\npip install . && autodir fix a.jpg --prompt "no fog" > b.jpg  # why\n```\n'
    assert list(words_of_commands(text)) == [["fix", "a.jpg", "--prompt", "no fog"]]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_command_and_its_options_exist(words: tuple[str, ...]) -> None:
    command, rest = resolve(words)
    known = options_of(command) | {"--help": None, "-h": None}
    given = [word.partition("=")[0] for word in rest if re.match(r"--?[a-zA-Z]", word)]
    assert [name for name in given if name not in known] == []


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_command_gives_each_option_an_admissible_value(words: tuple[str, ...]) -> None:
    command, rest = resolve(words)
    known = options_of(command)
    for place, word in enumerate(rest):
        param = known.get(word)
        if param is None or param.is_flag or param.count:
            continue
        assert place + 1 < len(rest), f"{word} lacks its value"
        assert rest[place + 1] in CHOICES.get(word, [rest[place + 1]])


@pytest.mark.parametrize("code", blocks(read("README.md"), "python"))
def test_python_uses_public_names_only(code: str) -> None:
    tree = ast.parse(code)
    imported = [
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "autodir"
        for alias in node.names
    ]
    assert imported
    assert set(imported) <= set(autodir.__all__)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_linked_files_exist(name: str) -> None:
    targets = [link for link in LINK.findall(read(name)) if "://" not in link]
    assert [link for link in targets if not ((ROOT / name).parent / link).exists()] == []


def test_sample_photos_named_in_commands_exist() -> None:
    samples = {word for words in COMMANDS for word in words if word.startswith("examples/")}
    assert samples
    assert [sample for sample in sorted(samples) if not (ROOT / sample).is_file()] == []


def test_sample_photos_are_small() -> None:
    sizes = {path.name: path.stat().st_size for path in (ROOT / "examples").glob("*.jpg")}
    assert len(sizes) >= 3
    assert [name for name, size in sizes.items() if size > 200 * 1024] == []


def test_ci_runs_the_test_command_of_the_readme() -> None:
    lines = [line for code in blocks(read("README.md"), "bash") for line in code.splitlines()]
    assert TEST_COMMAND in lines
    assert f"({TEST_COMMAND})" in read(".ci/run")


@pytest.mark.parametrize("name", ["README.md", "benchmarks/README.md"])
def test_tables_are_those_that_the_stored_results_give(name: str) -> None:
    text = read(name)
    assert GENERATED.search(text)
    assert tables.fill(text, ROOT / "benchmarks" / "results") == text, (
        f"run: python benchmarks/tables.py --document {name}"
    )


@pytest.mark.parametrize("name", ["README.md", "benchmarks/README.md"])
def test_no_figure_is_typed_into_a_table(name: str) -> None:
    typed = GENERATED.sub("", read(name))
    rows = [line for line in typed.splitlines() if line.startswith("|")]
    assert [row for row in rows if FIGURE.search(row)] == []
