"""What is published: the wheel, made from the sdist, holds every file and works in an empty
environment.

The libraries that it depends on are those of the environment of the tests; nothing is downloaded.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from eigenforget.core.version import __version__

ROOT = Path(__file__).parent.parent
Run = Callable[..., str]


def output(*command: str | Path, cwd: Path, **variables: str) -> str:
    """The standard output of a command that has to succeed, without what PYTHONPATH adds."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**inherited, **variables},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made from a copy, so that the repository stays as it is."""
    pytest.importorskip("setuptools")
    folder = tmp_path_factory.mktemp("sdist")
    leave = shutil.ignore_patterns("*.egg-info", "__pycache__")
    shutil.copytree(ROOT / "src", folder / "src", ignore=leave)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    code = "from setuptools import build_meta; print(build_meta.build_sdist('dist'))"
    name = output(sys.executable, "-c", code, cwd=folder).splitlines()[-1]
    return folder / "dist" / name


@pytest.fixture(scope="module")
def wheel(sdist: Path) -> Path:
    """Made from the sdist alone."""
    folder = sdist.parent.parent / "unpacked"
    # Python 3.11 has filters from 3.11.4 on.
    safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, **safely)
    (source,) = folder.iterdir()
    code = "from setuptools import build_meta; print(build_meta.build_wheel('dist'))"
    return source / "dist" / output(sys.executable, "-c", code, cwd=source).splitlines()[-1]


@pytest.fixture(scope="module")
def run(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs a program of an environment that holds the wheel, in an empty folder."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder / "venv", with_pip=False, symlinks=True)
    bin_ = folder / "venv" / "bin"
    install = ("install", "--quiet", "--no-deps", "--no-index", wheel)
    output(sys.executable, "-m", "pip", "--python", bin_ / "python", *install, cwd=folder)
    site = output(
        bin_ / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder
    )
    libraries = {sysconfig.get_path(name) for name in ("purelib", "platlib")}
    (Path(site.strip()) / "libraries.pth").write_text("\n".join(sorted(libraries)) + "\n")
    (folder / "work").mkdir()
    return lambda program, *words: output(bin_ / program, *words, cwd=folder / "work")


def test_the_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("eigenforget/")}
        licence = [name for name in archive.namelist() if name.endswith("LICENSE")]
    source = (ROOT / "src" / "eigenforget").rglob("*")
    files = {p for p in source if p.is_file() and p.suffix != ".pyc"}
    assert packed == {path.relative_to(ROOT / "src").as_posix() for path in files}
    assert len(licence) == 1 and f"-{__version__}-" in wheel.name


_COMMANDS = """
import sys
from eigenforget.cli import main
for line in sys.argv[1:]:
    try:
        main(line.split())
    except SystemExit as ended:
        assert not ended.code, line
"""
"""Runs several command lines in one process, which loads torch once."""


def test_it_forgets_and_reports_in_an_empty_environment(run: Run) -> None:
    where = run("python", "-c", "import eigenforget; print(eigenforget.__file__)")
    assert "environment" in where and str(ROOT) not in where
    assert run("eigenforget", "--version").strip() == __version__
    job = "--data digits() --model mlp(hidden=(16,)) --recipe recipe(epochs=3,batch_size=64)"
    request = "--forget by_class(label=3) --method muda(alternations=1)"
    commands = (
        f"train {job} --out original.safetensors",
        f"unlearn original.safetensors {request} --out new.safetensors",
        "certificate new.json --out certificate.html",
    )
    run("python", "-c", _COMMANDS, *commands)
    records = ROOT / "tests" / "golden" / "records"
    run("eigenforget", "report", str(records), "--out", "report.html")
    code = "import os; print(min(os.path.getsize(f'{n}.html') for n in ('report', 'certificate')))"
    assert int(run("python", "-c", code)) > 5_000
