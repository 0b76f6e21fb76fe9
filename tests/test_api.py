"""The public names: exact, documented, and free until they are used."""

import importlib.metadata
import inspect
import subprocess
import sys

import pytest

import autodir

PUBLIC = {
    "AutodirError",
    "CheckpointError",
    "ConfigError",
    "ContractError",
    "Degradation",
    "DeviceError",
    "Diagnosis",
    "ImageError",
    "MissingExtraError",
    "OutputOptions",
    "Photo",
    "PromptError",
    "Report",
    "Restoration",
    "RestoreOptions",
    "Restorer",
    "RuntimeOptions",
    "Step",
    "Taxonomy",
    "TrainOptions",
    "__version__",
}
CLASSES = sorted(PUBLIC - {"__version__"})
ERRORS = sorted(name for name in PUBLIC if name.endswith("Error"))


def fresh_python(code: str) -> str:
    """What ``code`` prints in an interpreter that has imported nothing yet."""
    finished = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.strip()


def test_all_lists_exactly_the_public_names() -> None:
    assert set(autodir.__all__) == PUBLIC
    assert len(autodir.__all__) == len(PUBLIC)


@pytest.mark.parametrize("name", CLASSES)
def test_public_name_is_the_documented_class_of_that_name(name: str) -> None:
    member = getattr(autodir, name)
    assert inspect.isclass(member)
    assert member.__name__ == name
    assert member.__doc__


def test_every_public_name_is_listed_by_dir_before_it_is_used() -> None:
    listed = fresh_python("import autodir; print(*dir(autodir))").split()
    assert set(listed) >= PUBLIC


@pytest.mark.parametrize("name", ERRORS)
def test_one_handler_catches_every_error(name: str) -> None:
    error = getattr(autodir, name)("what happened", "what to do")
    assert isinstance(error, autodir.AutodirError)
    assert error.to_dict() == {"kind": name, "message": "what happened", "hint": "what to do"}


def test_version_is_that_of_the_installed_package() -> None:
    try:
        expected = importlib.metadata.version("autodir")
    except importlib.metadata.PackageNotFoundError:
        expected = "0+unknown"
    assert autodir.__version__ == expected


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Restore_r"):
        _ = autodir.Restore_r


def test_importing_the_package_imports_nothing_heavy() -> None:
    loaded = fresh_python(
        "import sys; before = set(sys.modules); import autodir; print(*(set(sys.modules) - before))"
    ).split()
    heavy = {"torch", "numpy", "PIL", "cv2", "typer", "rich", "diffusers", "open_clip"}
    assert heavy.isdisjoint(loaded)
    own = {name for name in loaded if name.startswith("autodir.")}
    assert own == {"autodir.errors", "autodir.resources"}  # the processor's limit, before torch


def test_options_and_errors_are_reached_without_torch() -> None:
    code = (
        "import sys, autodir; autodir.RestoreOptions(strength=0.5); autodir.ConfigError('a', 'b'); "
        "print('torch' in sys.modules)"
    )
    assert fresh_python(code) == "False"
