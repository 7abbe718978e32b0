"""The wheel holds the whole package, with its YAML files, and runs where it is installed."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    source = tmp_path_factory.mktemp("source")
    settings = ["setup.cfg", "setup.py", "pyproject.toml", "README.md", "LICENSE"]
    tracked = ["recbole_llm", "properties", *settings]
    subprocess.run(["cp", "-r", *(str(ROOT / t) for t in tracked), str(source)], check=True)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "-w", str(out), str(source)], check=True)
    return next(out.glob("*.whl"))


def test_the_wheel_holds_every_module_and_every_yaml_file(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = {
        p.relative_to(ROOT).as_posix()
        for p in (ROOT / "recbole_llm").rglob("*.py*")
        if p.suffix != ".pyc"
    }
    properties = {
        f"recbole_llm/{p.relative_to(ROOT).as_posix()}"
        for p in (ROOT / "properties").rglob("*")
        if p.is_file()
    }
    assert (modules | properties) - names == set()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"recbole_llm"}


def test_the_installed_wheel_runs_elsewhere(wheel: Path, tmp_path: Path) -> None:
    """A new environment that sees this one's libraries, but the wheel's package."""
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
    assert "test result" in run.stderr
