"""Sessions that keep the project honest: ``nox`` runs lint, layers, types and tests.

Lint and layers read the source only and have small environments of their own; types and tests
share the one that session ``dev`` prepares, because torch alone takes several gigabytes.
Set ``AUTODIR_PYTHON`` to the interpreter of an environment that already holds ``.[dev]`` and
nothing is installed for them at all. ``nox -db uv`` installs with uv instead of pip.
"""

import os
import sys
import zipfile
from pathlib import Path

import nox

nox.needs_version = ">=2024.10.9"
nox.options.sessions = ["lint", "layers", "types", "tests"]

ROOT = Path(__file__).resolve().parent
SAMPLE = ROOT / "examples" / "dark-coffee.jpg"
SCRIPTS = "Scripts" if sys.platform == "win32" else "bin"


def dev_python(session: nox.Session) -> str:
    """The interpreter that holds the package, torch and the development tools."""
    shared = Path(session.cache_dir).parent / "dev" / SCRIPTS / "python"
    return os.environ.get("AUTODIR_PYTHON", str(shared))


def run_pytest(session: nox.Session, *arguments: str) -> None:
    """Run pytest in the shared environment; what stands behind ``--`` goes to it too."""
    session.run(dev_python(session), "-m", "pytest", *arguments, *session.posargs, external=True)


@nox.session(reuse_venv=True, default=False)
def dev(session: nox.Session) -> None:
    """Prepare the environment that types, tests, slow, coverage and bench share."""
    if "AUTODIR_PYTHON" in os.environ:
        session.log("AUTODIR_PYTHON is set: nothing to install")
        return
    session.install("-e", ".[dev]")


@nox.session(reuse_venv=True)
def lint(session: nox.Session) -> None:
    """Check the source with ruff."""
    session.install("ruff>=0.11")
    session.run("ruff", "check", ".")


@nox.session(reuse_venv=True)
def layers(session: nox.Session) -> None:
    """Check the import layers; nothing is imported, so nothing else is installed."""
    session.install("import-linter>=2.1")
    session.run("lint-imports", "--no-cache", env={"PYTHONPATH": str(ROOT)})


@nox.session(venv_backend="none", requires=["dev"])
def types(session: nox.Session) -> None:
    """Check the types with mypy --strict."""
    session.run(dev_python(session), "-m", "mypy", external=True)


@nox.session(venv_backend="none", requires=["dev"])
def tests(session: nox.Session) -> None:
    """Run the tests that need no network, no GPU and little time."""
    run_pytest(session)


@nox.session(venv_backend="none", requires=["dev"], default=False)
def slow(session: nox.Session) -> None:
    """Run the slow tests."""
    run_pytest(session, "-m", "slow and not gpu and not data")


@nox.session(venv_backend="none", requires=["dev"], default=False)
def gpu(session: nox.Session) -> None:
    """Run the tests that need a CUDA device."""
    run_pytest(session, "-m", "gpu")


@nox.session(venv_backend="none", requires=["dev"], default=False)
def coverage(session: nox.Session) -> None:
    """Run the tests under branch coverage and fail below 95 %."""
    run_pytest(session, "--cov", "--cov-report=term", "--cov-fail-under=95")


@nox.session(default=False)
def wheel(session: nox.Session) -> None:
    """Build the wheel, install it clean, and restore a photo far from the source."""
    session.install("build")
    temporary = Path(session.create_tmp())
    session.run("python", "-m", "build", "--wheel", "--outdir", str(temporary / "dist"), str(ROOT))
    built = max((temporary / "dist").glob("autodir-*.whl"), key=lambda path: path.stat().st_mtime)
    with zipfile.ZipFile(built) as archive:
        stray = [name for name in archive.namelist() if "/." in name]
    if stray:
        session.error(f"the wheel carries working files, such as {stray[0]}")
    session.install(str(built))
    result = temporary / "restored.jpg"
    session.chdir(temporary)
    session.run("autodir", "doctor")
    session.run("autodir", "fix", str(SAMPLE), "--output", str(result), "--overwrite")
    if not result.is_file():
        session.error(f"the installed wheel wrote no {result}")


@nox.session(venv_backend="none", requires=["dev"], default=False)
def bench(session: nox.Session) -> None:
    """Run a benchmark suite: ``nox -s bench -- SUITE --data DIR``."""
    session.run(dev_python(session), "benchmarks/run.py", *session.posargs, external=True)
