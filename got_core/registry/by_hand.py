"""Aliases moved because a person says so: a version promoted without the rule, a champion rolled back.

Belongs here: these two moves, and what they leave on the version. Not here: the rule (`promote`).
"""

from __future__ import annotations

from got_core.registry.aliases import Move, alias_history, move_alias, version_at, version_before
from got_core.registry.promote import REASON_TAG
from got_core.registry.reference import SCHEME, version_tags
from got_core.registry.standing import CHAMPION
from got_core.registry.tracking import connect


def promote_version(name: str, version: str, reason: str, tracking_uri: str) -> Move | None:
    """Point `@champion` at a version; None where it is champion already.

    The reason stays on the version and in the history. Raises ValueError for a blank reason, NoModelError for
    a version that there is not.
    """
    _check(reason)
    version = _number(name, version, tracking_uri)
    client = connect(tracking_uri)
    move = move_alias(client, name, CHAMPION, version, f"by hand: {reason}")
    if move is not None:
        client.set_model_version_tag(name, version, REASON_TAG, move.reason)
    return move


def roll_back(name: str, reason: str, tracking_uri: str, to: str | None = None) -> Move:
    """Point `@champion` at the version that it named before, or at `to`.

    What it is rolled back from says so in its tag `promotion`. Raises ValueError for a blank reason, without
    a champion, and where `to` is the champion; NothingBeforeError where no earlier one is known; NoModelError
    for a version that there is not.
    """
    _check(reason)
    client = connect(tracking_uri)
    champion = version_at(client, name, CHAMPION)
    if champion is None:
        raise ValueError(f"{name} has no @{CHAMPION}: there is nothing to roll back")
    current = str(champion.version)
    target = to or version_before(alias_history(client, name, CHAMPION), current)
    target = _number(name, target, tracking_uri)
    move = move_alias(client, name, CHAMPION, target, f"rolled back: {reason}", rollback=True)
    if move is None:
        raise ValueError(f"version {target} is the champion already")
    client.set_model_version_tag(name, current, REASON_TAG, f"rolled back to version {target}: {reason}")
    return move


def _number(name: str, version: str, tracking_uri: str) -> str:
    """A version's number as MLflow writes it (3, not 03). Raises NoModelError where there is none."""
    return version_tags(f"{SCHEME}{name}/{version}", tracking_uri)[0].rpartition("/")[2]


def _check(reason: str) -> None:
    if not reason.strip():
        raise ValueError("say why: the reason stays with the version")
