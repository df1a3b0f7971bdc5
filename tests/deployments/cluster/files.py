"""The files of deployments/cluster as plain data."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[3]
CLUSTER = ROOT / "deployments" / "cluster"
VARIABLE = re.compile(r"(?<!\$)\$\{([A-Z][A-Z0-9_]*)")


@cache
def compose() -> dict[str, Any]:
    """The compose file, its anchors resolved."""
    return yaml.safe_load((CLUSTER / "compose.yaml").read_text())


@cache
def environment_file() -> tuple[dict[str, str], frozenset[str]]:
    """Variables of .env.example with their values, and which of them are secrets."""
    values: dict[str, str] = {}
    secrets: set[str] = set()
    secret = False
    for line in (CLUSTER / ".env.example").read_text().splitlines():
        if line.startswith("# secret"):
            secret = True
        elif line and not line.startswith("#"):
            name, _, value = line.partition("=")
            assert name not in values, f"{name} twice"
            values[name] = value
            secrets |= {name} if secret else set()
            secret = False
    return values, frozenset(secrets)


@cache
def manifests() -> tuple[tuple[str, dict[str, Any]], ...]:
    """Every Kubernetes object with its file's name, charts' values left out."""
    paths = [
        path for path in sorted((CLUSTER / "kubernetes").glob("*.yaml")) if not path.stem.endswith("-values")
    ]
    return tuple((path.name, one) for path in paths for one in yaml.safe_load_all(path.read_text()))


@cache
def values(chart: str) -> dict[str, Any]:
    """Values of a chart."""
    return yaml.safe_load((CLUSTER / "kubernetes" / f"{chart}-values.yaml").read_text())


@cache
def chart_keys() -> dict[str, Any]:
    """Names of keys that the charts' own sources have: an object's keys, null where what is below is
    not looked into (parts of a pod, settings of servers that are not used)."""
    return json.loads((Path(__file__).parent / "chart_keys.json").read_text())


def environment_of(service: str) -> dict[str, str]:
    """A service's environment as the file has it, variables not replaced."""
    return {
        name: str(value) for name, value in (compose()["services"][service].get("environment") or {}).items()
    }


def texts(value: Any) -> Iterator[str]:
    """All strings in plain data."""
    if isinstance(value, Mapping):
        for key, one in value.items():
            yield str(key)
            yield from texts(one)
    elif isinstance(value, list):
        for one in value:
            yield from texts(one)
    else:
        yield str(value)


def references(value: Any, kind: str) -> Iterator[dict[str, Any]]:
    """All references of a kind (`secretKeyRef`, `configMapKeyRef`) in plain data."""
    if isinstance(value, Mapping):
        for key, one in value.items():
            if key == kind:
                yield one
            else:
                yield from references(one, kind)
    elif isinstance(value, list):
        for one in value:
            yield from references(one, kind)
