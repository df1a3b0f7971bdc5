"""When the champion moves.

Belongs here: the rule, as a pure function over two score dicts, and its application to a registry. Not here:
how scores are made.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from got_core.registry.log import CHALLENGER, SCORES_TAG
from got_core.registry.tracking import MlflowClient, connect

CHAMPION = "champion"


@dataclass(frozen=True)
class PromotionDecision:
    """What was decided and why."""

    promoted: bool
    reason: str
    challenger: str | None = None
    """Version that asked."""

    champion: str | None = None
    """Version that is champion afterwards."""

    table: list[dict[str, Any]] = field(default_factory=list)
    """One row a task and one for `overall`: task, champion, challenger, difference, upper, verdict."""

    def markdown(self) -> str:
        """The table as markdown, empty if nothing was compared."""
        if not self.table:
            return ""
        head = "| task | champion | challenger | difference | verdict |\n|---|---|---|---|---|"
        rows = [
            f"| {row['task']} | {row['champion']:.3f} | {row['challenger']:.3f} "
            f"| {row['difference']:+.3f} | {row['verdict']} |"
            for row in self.table
        ]
        return "\n".join([head, *rows])


def compare(
    champion: Mapping[str, Any], challenger: Mapping[str, Any]
) -> tuple[bool, str, list[dict[str, Any]]]:
    """Whether the challenger replaces the champion: (yes or no, reason, table).

    It must be better overall, and on no task worse beyond the interval: the upper end of the interval of the
    difference (both tasks' own intervals, combined by the square-and-add rule, MOVER) must reach zero.
    Scores of unlike protocols, and incomplete ones, are not compared: the answer is no.
    """
    if champion["protocol_digest"] != challenger["protocol_digest"]:
        return False, _unlike(champion, challenger), []
    if not challenger["complete"]:
        return False, "the challenger's score is partial; finish its benchmark run", []
    if set(champion["tasks"]) != set(challenger["tasks"]):
        return False, "the two scores cover different tasks", []
    table = [_row(t, champion["tasks"][t], challenger["tasks"][t]) for t in champion["tasks"]]
    worse = [row["task"] for row in table if row["verdict"] == "worse"]
    gain = challenger["overall"] - champion["overall"]
    table.append(_overall_row(champion, challenger, gain))
    if worse:
        return False, f"worse than the champion on {', '.join(worse)} beyond the interval", table
    if gain <= 0:
        return (
            False,
            f"not better overall ({challenger['overall']:.3f} against {champion['overall']:.3f})",
            table,
        )
    return True, f"better overall ({gain:+.3f}) and worse on no task beyond the interval", table


def _unlike(champion: Mapping[str, Any], challenger: Mapping[str, Any]) -> str:
    return (
        f"the champion was scored under {champion['protocol']} {champion['protocol_digest']}, the challenger "
        f"under {challenger['protocol']} {challenger['protocol_digest']}: not comparable; score the champion "
        "again under the new protocol, or move the alias by hand"
    )


def _row(task: str, champion: Mapping[str, Any], challenger: Mapping[str, Any]) -> dict[str, Any]:
    difference = challenger["mean"] - champion["mean"]
    reach = math.hypot(challenger["high"] - challenger["mean"], champion["mean"] - champion["low"])
    upper = difference + reach
    # Rounding must not turn a tie into a loss.
    verdict = "worse" if upper < -1e-9 else "better" if difference > 0 else "no worse"
    return {
        "task": task,
        "champion": champion["mean"],
        "challenger": challenger["mean"],
        "difference": difference,
        "upper": upper,
        "verdict": verdict,
    }


def _overall_row(champion: Mapping[str, Any], challenger: Mapping[str, Any], gain: float) -> dict[str, Any]:
    verdict = "better" if gain > 0 else "not better"
    return {
        "task": "overall",
        "champion": champion["overall"],
        "challenger": challenger["overall"],
        "difference": gain,
        "upper": gain,
        "verdict": verdict,
    }


def promote(name: str = "got", *, tracking_uri: str) -> PromotionDecision:
    """Move `@champion` to `@challenger` if the rule allows it, and write the decision on the challenger's
    version.

    Without a champion, a challenger with a complete score becomes the first one. Asking again changes
    nothing. Raises ValueError if there is no challenger at all.
    """
    client = connect(tracking_uri)
    challenger, champion = _version_at(client, name, CHALLENGER), _version_at(client, name, CHAMPION)
    if challenger is None:
        raise ValueError(f"model {name!r} has no @{CHALLENGER} in {tracking_uri}; register one first")
    if champion is not None and champion.version == challenger.version:
        version = str(champion.version)
        return PromotionDecision(False, f"version {version} is the champion already", version, version)
    decision = _decide(challenger, champion)
    if decision.promoted:
        client.set_registered_model_alias(name, CHAMPION, str(challenger.version))
    client.set_model_version_tag(name, str(challenger.version), "promotion", decision.reason)
    return decision


def _decide(challenger: ModelVersion, champion: ModelVersion | None) -> PromotionDecision:
    asked, standing = str(challenger.version), None if champion is None else str(champion.version)
    scores = _scores(challenger)
    if scores is None or not scores["complete"]:
        reason = f"version {asked} has no complete benchmark score; run the benchmark and register it again"
        return PromotionDecision(False, reason, asked, standing)
    if champion is None:
        return PromotionDecision(True, "there was no champion yet", asked, asked)
    held = _scores(champion)
    if held is None:
        reason = (
            f"champion version {standing} has no score to compare with; score it or move the alias by hand"
        )
        return PromotionDecision(False, reason, asked, standing)
    promoted, reason, table = compare(held, scores)
    return PromotionDecision(promoted, reason, asked, asked if promoted else standing, table)


def _version_at(client: MlflowClient, name: str, alias: str) -> ModelVersion | None:
    try:
        return client.get_model_version_by_alias(name, alias)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def _scores(version: ModelVersion) -> dict[str, Any] | None:
    text = version.tags.get(SCORES_TAG)
    return json.loads(text) if text else None
