"""What the documentation may name: files, modules and what is in them, settings, make targets.

Belongs here: looking names up without importing a model library. Not here: reading pages (`pages`).
"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

from pydantic_settings import BaseSettings

from got_core.server_settings import AnnotatorServer, JudgeServer, ServeSettings, StudioSettings
from got_core.settings import Settings
from got_core.watch_settings import AlertSettings, MetricsSettings
from tests.docs.pages import ROOT

PACKAGES = ("got_core", "got_assets")


@cache
def make_targets() -> frozenset[str]:
    """Targets of the Makefile."""
    return frozenset(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@cache
def settings() -> frozenset[str]:
    """Environment variables that settings read."""
    servers: dict[str, type[BaseSettings]] = {
        "ANNOTATOR": AnnotatorServer,
        "JUDGE": JudgeServer,
        "SERVE": ServeSettings,
        "STUDIO": StudioSettings,
        "ALERT": AlertSettings,
        "METRICS": MetricsSettings,
    }
    names = {f"GOT_{name.upper()}" for name in Settings.model_fields if not name.endswith("_server")}
    of_servers = {f"GOT_{kind}_{name.upper()}" for kind, one in servers.items() for name in one.model_fields}
    return frozenset(names | of_servers)


@cache
def module_file(dotted: str) -> Path | None:
    """The file of a module or package; None if there is none."""
    path = ROOT.joinpath(*dotted.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


@cache
def names_in(file: Path) -> frozenset[str]:
    """Names that a module defines or imports at its top level."""
    found: set[str] = set()
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    return frozenset(found)


@cache
def _classes() -> dict[str, tuple[frozenset[str], frozenset[str]]]:
    """Own members and names of base classes, by the class's name."""
    found: dict[str, tuple[frozenset[str], frozenset[str]]] = {}
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.ClassDef):
                    bases = frozenset(base.id for base in node.bases if isinstance(base, ast.Name))
                    found[node.name] = (_own_members(node), bases)
    return found


def _own_members(node: ast.ClassDef) -> frozenset[str]:
    found = set()
    for item in node.body:
        if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(item.name)
        elif isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            found.add(item.target.id)
    return frozenset(found)


@cache
def members(name: str) -> frozenset[str] | None:
    """Fields and methods of a class of the packages, with those of its bases there; None for another name."""
    if name not in _classes():
        return None
    own, bases = _classes()[name]
    return own.union(*(members(base) or () for base in bases))


def resolves(dotted: str) -> bool:
    """Whether a dotted name such as `got_core.chain.edits.add` is a module, or something in one."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        file = module_file(".".join(parts[:length]))
        if file is not None:
            rest = parts[length:]
            return not rest or (len(rest) == 1 and rest[0] in names_in(file)) or _is_member(rest)
    return False


def _is_member(rest: list[str]) -> bool:
    return len(rest) == 2 and rest[1] in (members(rest[0]) or ())
