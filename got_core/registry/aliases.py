"""Moving aliases, with a history: MLflow keeps none.

Each move is a tag of the registered model, `alias_history/TIME-ID`: what moved, from where, and why.

Belongs here: moves, their history, what a roll-back goes back to. Not here: whether to move (`promote`).
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from got_core.registry.tracking import MlflowClient

PREFIX = "alias_history/"
_REASON = 2_000
"""Characters of a reason that are kept."""


@dataclass(frozen=True, kw_only=True)
class Move:
    """One move of an alias."""

    at: str
    """UTC, ISO 8601."""

    alias: str
    version: str
    before: str | None
    """Version that it named until then."""

    reason: str
    rollback: bool = False


class NothingBeforeError(LookupError):
    """There is no earlier version to go back to."""


def version_at(client: MlflowClient, name: str, alias: str) -> ModelVersion | None:
    """The version that an alias names; None where there is none."""
    try:
        return client.get_model_version_by_alias(name, alias)
    except MlflowException as error:
        # A missing alias is an invalid parameter to MLflow, a missing model a missing resource.
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def move_alias(
    client: MlflowClient, name: str, alias: str, version: str, reason: str, *, rollback: bool = False
) -> Move | None:
    """Point an alias at a version and note it; None where it is there already."""
    current = version_at(client, name, alias)
    before = None if current is None else str(current.version)
    if before == version:
        return None
    at = datetime.now(UTC).isoformat(timespec="microseconds")
    move = Move(
        at=at, alias=alias, version=version, before=before, reason=reason[:_REASON], rollback=rollback
    )
    # Noted first: a move that was cut off is one that did not happen, and the alias says so.
    key = f"{PREFIX}{at.replace(':', '').replace('+', ' ')[:22]}-{uuid.uuid4().hex[:8]}"
    client.set_registered_model_tag(name, key, json.dumps(asdict(move)))
    client.set_registered_model_alias(name, alias, version)
    return move


def alias_history(client: MlflowClient, name: str, alias: str | None = None) -> list[Move]:
    """All moves, the oldest first; of one alias, or of all. None for a model that there is not."""
    try:
        tags = client.get_registered_model(name).tags
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return []
        raise
    found = [move for key, text in tags.items() if key.startswith(PREFIX) and (move := _read(text))]
    return sorted((one for one in found if alias in (None, one.alias)), key=lambda one: one.at)


def version_before(moves: Sequence[Move], current: str) -> str:
    """The version that an alias named before the present one; one that was rolled back from is none. Raises
    NothingBeforeError."""
    stack: list[str] = []
    for move in moves:
        if not stack and move.before is not None:
            stack.append(move.before)
        if move.rollback and move.version in stack:
            while stack[-1] != move.version:
                stack.pop()
        elif not stack or stack[-1] != move.version:
            stack.append(move.version)
    while stack and stack[-1] != current:  # noted, but cut off before it moved
        stack.pop()
    earlier = [one for one in stack if one != current]
    if not earlier:
        raise NothingBeforeError(
            f"nothing is known of a version before {current}: name the one to go back to with --to"
        )
    return earlier[-1]


def _read(text: str) -> Move | None:
    try:
        return Move(**json.loads(text))
    except (TypeError, ValueError):  # somebody has edited it
        return None
