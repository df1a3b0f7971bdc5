"""Which version an alias names, and what the registry says of it.

Belongs here: asking. Not here: moving an alias (`promote`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from got_core.registry.log import WEIGHTS_TAG
from got_core.registry.results import BenchmarkResult, read_results
from got_core.registry.tracking import MlflowClient, connect

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


def version_at(client: MlflowClient, name: str, alias: str) -> ModelVersion | None:
    """The same as MLflow has it."""
    try:
        return client.get_model_version_by_alias(name, alias)
    except MlflowException as error:
        # A missing alias is an invalid parameter to MLflow, a missing model a missing resource.
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise
