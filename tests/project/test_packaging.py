"""What is installed: the files of the wheel, and that every import has its package in pyproject.toml."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PACKAGES = ("got_core", "got_assets")
WEIGHTS = [
    f"got_core/foundation/weights/{name}"
    for name in (
        "foundation.json",
        "README.md",
        "drawing/unet/a.safetensors",
        "language/tokenizer.json",
    )
]
"""As files of foundation weights lie, whether the repository has some or not."""


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def asked_for(*extras: str) -> list[Requirement]:
    """What the project asks for, for itself and with these extras."""
    optional = [line for extra in extras for line in PROJECT["optional-dependencies"][extra]]
    return [Requirement(line) for line in [*PROJECT["dependencies"], *optional]]


def imports(folder: Path) -> Iterator[tuple[str, str]]:
    """Top names of all modules imported below a folder, with the file."""
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from ((alias.name.partition(".")[0], str(path)) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level:
                yield str(node.module).partition(".")[0], str(path)


@pytest.mark.parametrize(
    ("folder", "extras"),
    [
        ("got_core", ("pipeline", "curate", "serve", "studio")),
        ("got_assets", ("pipeline", "serve", "cluster")),
        ("bench", ("pipeline", "dev", "serve", "test")),
        ("deployments/rehearsal", ("pipeline", "dev", "rehearsal")),
        ("deployments/cluster", ("pipeline", "cluster")),
        ("tests", ("pipeline", "curate", "dev", "serve", "studio", "cluster", "test")),
    ],
)
def test_every_import_is_asked_for(folder: str, extras: tuple[str, ...]) -> None:
    own = {*sys.stdlib_module_names, *PACKAGES, "tests", "bench", "deployments"}
    known, wanted = packages_distributions(), {normal(one.name) for one in asked_for(*extras)}
    missing = {
        f"{name} in {path}"
        for name, path in imports(ROOT / folder)
        if name not in own and not {normal(one) for one in known.get(name, [name])} & wanted
    }
    assert not missing


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the source archive, made from a copy."""
    place = tmp_path_factory.mktemp("build")
    source = place / "source"
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in WEIGHTS:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).touch()
    code = f"from setuptools.build_meta import *; build_wheel({str(place)!r}); build_sdist({str(place)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=source, check=True, capture_output=True)
    return place


def test_wheel_and_source_hold_every_file_of_both_packages(built: Path) -> None:
    wanted = {
        path.relative_to(ROOT).as_posix()
        for name in PACKAGES
        for path in (ROOT / name).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    } | set(WEIGHTS)
    assert {"got_core/py.typed", "got_assets/py.typed", "got_core/annotate/prompts/ground.txt"} <= wanted
    (wheel,), (archive,) = built.glob("*.whl"), built.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as files:
        assert wanted <= set(files.namelist())
        (points,) = [name for name in files.namelist() if name.endswith("entry_points.txt")]
        assert "got = got_assets.cli:main" in files.read(points).decode()
    with tarfile.open(archive) as files:
        assert wanted <= {name.partition("/")[2] for name in files.getnames()}


def test_the_wheel_alone_has_what_dagster_is_started_with(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as files:
        files.extractall(tmp_path / "site")
    code = """
import got_assets, sys
from pathlib import Path
from got_assets.home import prepare_dagster_home
from got_assets.project import PROJECT
from got_assets.ui import commands
assert Path(got_assets.__file__).is_relative_to(sys.argv[1]), got_assets.__file__
assert (prepare_dagster_home(PROJECT) / "dagster.yaml").exists()
line = commands(PROJECT, 1, 2)["Dagster"]
assert Path(line[line.index("-w") + 1]).is_file()
"""
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "GOT_HOME": str(tmp_path / "home")}
    environment.pop("DAGSTER_HOME", None)
    subprocess.run([sys.executable, "-c", code, tmp_path / "site"], cwd=tmp_path, env=environment, check=True)
