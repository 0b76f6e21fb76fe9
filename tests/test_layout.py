"""The house keeps its shape: sizes, mirrors, names, doors, and what stays out of the library.

Rules that ruff, mypy and import-linter cannot state; each detector is shown to detect.
"""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "autodir"
MAX_LINES = 400
REFUSED = {"utils", "util", "common", "helpers", "helper", "base", "misc", "manager"}
TORCH_FREE = ("errors", "resources", "options", "techniques", "config", "phrases", "prompts")

# Which module may import which library; ``/`` ends a package.
DOORS = {
    "open_clip": {"clip.py", "tokens.py"},
    "tokenizers": {"tokens.py"},
    "diffusers": {"diffusion/", "builders.py"},
    "safetensors": {"weights.py", "training/", "conversion/"},
    "accelerate": {"training/", "weights.py"},
    "huggingface_hub": {"hub.py"},
    "torchmetrics": {"evaluation/metrics.py"},
    "pyiqa": {"evaluation/metrics.py"},
    "spandrel": {"correction/stage1.py"},
    "PIL": {"imaging/", "synthesis/codec.py", "training/", "evaluation/"},
    "cv2": {"imaging/", "evaluation/"},
    "pillow_heif": {"imaging/heif.py"},
    "rawpy": {"imaging/raw.py"},
    "typer": {"cli/"},
    "rich": {"cli/"},
}

MODULES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))
TESTABLE = [name for name in MODULES if not name.endswith(("__init__.py", "__main__.py"))]
BELOW_CLI = [name for name in MODULES if not name.startswith("cli/") and name != "__main__.py"]


def parse(module: str) -> ast.Module:
    return ast.parse((PACKAGE / module).read_text(encoding="utf-8"), module)


def dotted(node: ast.expr) -> str:
    """``a.b.c`` for a chain of names, "" for any other expression."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        owner = dotted(node.value)
        return f"{owner}.{node.attr}" if owner else ""
    return ""


def calls(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and dotted name of each call."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and dotted(node.func):
            yield node.lineno, dotted(node.func)


def imported_libraries(tree: ast.AST) -> set[str]:
    """The top-level name of each import, also inside functions, but not of those for types."""
    for_types = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and dotted(node.test).endswith("TYPE_CHECKING")
        for statement in node.body
        for inner in ast.walk(statement)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if node in for_types:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


def program_calls(tree: ast.AST) -> list[tuple[int, str]]:
    """What belongs to a program and not to a library: output, exits, log handlers."""
    names = {"print", "input", "exit", "quit", "breakpoint", "SystemExit"}
    names |= {"sys.exit", "os._exit", "os.abort", "logging.basicConfig"}
    return [
        (line, name)
        for line, name in calls(tree)
        if name in names or name.endswith((".addHandler", "sys.stdout.write", "sys.stderr.write"))
    ]


def pickle_doors(tree: ast.AST) -> list[tuple[int, str]]:
    """Calls that may run code found in a file."""
    names = {"torch.load", "pickle.load", "pickle.loads", "joblib.load", "eval", "exec"}
    return [(line, name) for line, name in calls(tree) if name in names]


def catch_all_parameters(tree: ast.AST) -> list[tuple[int, str]]:
    """Public functions and methods with ``**anything``: a misspelt option would vanish."""
    owners = [tree, *(node for node in ast.walk(tree) if isinstance(node, ast.ClassDef))]
    return [
        (node.lineno, node.name)
        for owner in owners
        for node in ast.iter_child_nodes(owner)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.args.kwarg is not None
        and (node.name == "__init__" or not node.name.startswith("_"))
    ]


def is_allowed(module: str, doors: set[str]) -> bool:
    return any(module.startswith(door) if door.endswith("/") else module == door for door in doors)


def test_detectors_find_what_they_look_for() -> None:
    bad = ast.parse(
        "import sys\nimport torch\n"
        "def load(path, **options):\n"
        "    import pyiqa.metrics\n"
        "    print(path)\n"
        "    torch.load(path)\n"
        "    sys.exit(1)\n"
    )
    assert imported_libraries(bad) == {"sys", "torch", "pyiqa"}
    assert program_calls(bad) == [(5, "print"), (7, "sys.exit")]
    assert pickle_doors(bad) == [(6, "torch.load")]
    assert catch_all_parameters(bad) == [(3, "load")]


def test_imports_for_types_only_are_no_imports() -> None:
    tree = ast.parse("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pyiqa\n")
    assert imported_libraries(tree) == {"typing"}


def test_there_is_a_package_to_look_at() -> None:
    assert {"errors.py", "pipeline.py", "cli/app.py"} <= set(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_module_is_short(module: str) -> None:
    lines = len((PACKAGE / module).read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_LINES


@pytest.mark.parametrize("module", MODULES)
def test_module_says_what_lives_there(module: str) -> None:
    assert ast.get_docstring(parse(module))


@pytest.mark.parametrize("module", TESTABLE)
def test_module_has_its_test_file(module: str) -> None:
    path = Path(module)
    assert (ROOT / "tests" / path.parent / f"test_{path.name}").is_file()


@pytest.mark.parametrize("module", MODULES)
def test_module_has_a_name_that_says_something(module: str) -> None:
    parts = {part for name in Path(module).with_suffix("").parts for part in name.split("_")}
    assert REFUSED.isdisjoint(parts)


@pytest.mark.parametrize("folder", ["tests", "benchmarks"])
def test_no_test_or_benchmark_has_a_refused_name(folder: str) -> None:
    stems = {path.stem.removeprefix("test_") for path in (ROOT / folder).rglob("*.py")}
    assert stems
    assert REFUSED.isdisjoint(stems)


def test_every_package_folder_is_a_package() -> None:
    folders = {(PACKAGE / module).parent for module in MODULES}
    assert [folder.name for folder in folders if not (folder / "__init__.py").is_file()] == []
    assert (PACKAGE / "py.typed").is_file()


@pytest.mark.parametrize("module", BELOW_CLI)
def test_library_neither_prints_nor_exits(module: str) -> None:
    assert program_calls(parse(module)) == []


@pytest.mark.parametrize("module", [name for name in MODULES if not name.startswith("conversion/")])
def test_nothing_executes_code_from_a_file(module: str) -> None:
    assert pickle_doors(parse(module)) == []


@pytest.mark.parametrize("module", MODULES)
def test_no_public_function_swallows_unknown_options(module: str) -> None:
    assert catch_all_parameters(parse(module)) == []


@pytest.mark.parametrize("module", MODULES)
def test_library_enters_by_its_door_only(module: str) -> None:
    used = imported_libraries(parse(module)) & DOORS.keys()
    assert [library for library in sorted(used) if not is_allowed(module, DOORS[library])] == []


@pytest.mark.parametrize("name", [*(f"autodir.{name}" for name in TORCH_FREE), "autodir.cli.app"])
def test_module_loads_without_torch(name: str) -> None:
    code = f"import sys, {name}; print('torch' in sys.modules)"
    finished = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert (finished.stdout.strip(), finished.returncode) == ("False", 0), finished.stderr


def test_wheel_carries_prompts_and_model_where_resources_looks() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    included = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert included == {
        "prompts": "autodir/_data/prompts",
        "checkpoints/small": "autodir/_data/checkpoints/small",
        "benchmarks/suites": "autodir/_data/suites",
    }
    source = (PACKAGE / "resources.py").read_text(encoding="utf-8")
    assert '"_data"' in source


def test_one_version_stands_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    version = project["project"]["version"]
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^version: (\S+)$", citation, re.MULTILINE) == [version]
    assert re.findall(r"^## \[(\d[^\]]*)\]", changes, re.MULTILINE)[0] == version


def test_layers_contract_names_every_module() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (layered,) = (
        contract
        for contract in project["tool"]["importlinter"]["contracts"]
        if contract["type"] == "layers"
    )
    named = {name.strip(" ()") for layer in layered["layers"] for name in layer.split("|")} | set(
        layered["exhaustive_ignores"]
    )
    present = {Path(module).parts[0].removesuffix(".py") for module in MODULES} - {"__init__"}
    assert present <= named
