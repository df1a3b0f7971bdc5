"""Which version an alias names, and what the registry says of it.

Belongs here: asking. Not here: moving an alias (`promote`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from got_core.registry.aliases import version_at
from got_core.registry.log import WEIGHTS_TAG
from got_core.registry.results import BenchmarkResult, read_results
from got_core.registry.tracking import connect

CHAMPION = "champion"


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A registered version."""

    version: str
    weights_hash: str | None
    results: Mapping[str, BenchmarkResult]
    """By benchmark, as far as its tags hold them."""


def standing_at(name: str, alias: str, tracking_uri: str) -> Standing | None:
    """The version that an alias names; None where there is none. Raises MlflowException where the registry
    cannot be asked."""
    client = connect(tracking_uri)
    version = version_at(client, name, alias)
    if version is None:
        return None
    return Standing(
        version=str(version.version),
        weights_hash=version.tags.get(WEIGHTS_TAG),
        results=read_results(client, version),
    )
