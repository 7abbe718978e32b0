"""The sdist holds the checkout; the wheel holds the package and runs where it is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ["recbole_llm", "properties", "docs", "results", "tests"]
FILES = ["MANIFEST.in", "setup.cfg", "setup.py", "pyproject.toml", "run_recbole_llm.py"]
FILES += ["README.md", "CHANGELOG.md", "LICENSE"]
MADE = ["__pycache__", "*.pyc", "*.egg-info"]


def files_of(*folders: str) -> set[str]:
    """The files of the checkout's folders, except those that tools have made there."""
    paths = (p for folder in folders for p in (ROOT / folder).rglob("*") if p.is_file())
    paths = (p.relative_to(ROOT) for p in paths)
    return {
        p.as_posix()
        for p in paths
        if not any(fnmatch(part, made) for part in p.parts for made in MADE)
    }


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("sdist")
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns(*MADE))
    for file in FILES:
        shutil.copy(ROOT / file, source)
    command = [sys.executable, "-m", "build", "--sdist", "--no-isolation", "-o", str(out)]
    subprocess.run([*command, str(source)], check=True)
    return next(out.glob("*.tar.gz"))


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from the sdist, so that an incomplete sdist fails."""
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "-w", str(out), str(sdist)], check=True)
    return next(out.glob("*.whl"))


def test_the_sdist_holds_every_file(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert (files_of(*FOLDERS) | set(FILES)) - names == set()


def test_the_wheel_holds_every_module_and_every_yaml_file(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = {f for f in files_of("recbole_llm") if not f.endswith(".md")}
    properties = {f"recbole_llm/{f}" for f in files_of("properties")}
    assert (modules | properties) - names == set()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"recbole_llm"}


def test_the_installed_wheel_runs_elsewhere(wheel: Path, tmp_path: Path) -> None:
    """A new environment sees this environment's libraries, but the wheel's package."""
    venv.create(tmp_path / "env", with_pip=False)
    python = tmp_path / "env" / "bin" / "python"
    site = next((tmp_path / "env" / "lib").glob("python*/site-packages"))
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(site)]
    subprocess.run([*install, str(wheel)], check=True)
    libraries = [p for p in sys.path if p.endswith("site-packages")]
    (site / "libraries.pth").write_text("\n".join(libraries))
    code = (
        "import sys, recbole_llm; from recbole_llm.cli import main;"
        "from recbole_llm.testing import write_tiny_dataset; write_tiny_dataset('dataset');"
        "print(recbole_llm.__file__);"
        "sys.argv = ['recbole-llm', 'run', '--model=GRU4Rec', '--dataset=tiny', '--epochs=1'];"
        "main()"
    )
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    run = subprocess.run(
        [str(python), "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr[-2000:]
    assert run.stdout.startswith(str(site))
    assert "ndcg@10" in run.stdout
