from __future__ import annotations

import json
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import got_core
from got_core.registry import library
from got_core.registry.library import library_hash, packed_library

IMPORTED = """
import json, pkgutil, sys
from importlib.resources import files

sys.path.insert(0, sys.argv[1])
import got_core
import got_core.chain.grammar

print(json.dumps({
    "modules": sorted(one.name for one in pkgutil.walk_packages(got_core.__path__, "got_core.")),
    "chain": got_core.chain.grammar.__file__,
    "files": sorted(one.name for one in files("got_core.annotate").joinpath("prompts").iterdir()),
}))
"""


def test_two_files_are_imported_as_the_whole_library(tmp_path: Path) -> None:
    with packed_library() as folder:
        assert sorted(path.name for path in folder.rglob("*")) == ["__init__.py", "library.zip"]
        done = subprocess.run(
            [sys.executable, "-c", IMPORTED, str(folder.parent)],
            cwd=tmp_path, env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        answer = json.loads(done.stdout)
        assert answer["chain"].startswith(str(folder / "library.zip"))
    here = sorted(one.name for one in pkgutil.walk_packages(got_core.__path__, "got_core."))
    assert answer["modules"] == here and len(here) > 100
    assert answer["files"] == sorted(p.name for p in (library.ROOT / "annotate" / "prompts").iterdir())


def test_equal_libraries_are_equal_bytes() -> None:
    contents = []
    for _ in range(2):
        with packed_library() as folder:
            contents.append([path.read_bytes() for path in sorted(folder.iterdir())])
    assert contents[0] == contents[1]


def test_the_hash_is_of_names_and_contents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "ROOT", tmp_path)
    hashes = []
    for name, content in (("a.py", "1"), ("b.py", "1"), ("b.py", "2")):
        for path in tmp_path.iterdir():
            path.unlink()
        (tmp_path / name).write_text(content)
        hashes.append(library_hash())
        (tmp_path / "__pycache__").mkdir()
        (tmp_path / "__pycache__" / f"{name}c").write_text(name)
        assert library_hash() == hashes[-1]
        (tmp_path / "__pycache__" / f"{name}c").unlink()
        (tmp_path / "__pycache__").rmdir()
    assert len({*hashes}) == 3
