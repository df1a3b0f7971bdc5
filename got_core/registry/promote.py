"""When the champion moves.

Belongs here: the rule applied to a registry, and what the decision leaves there. Not here: the rule (`rule`),
scoring a champion again (`rescore`), how scores are made.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mlflow.entities.model_registry import ModelVersion

from got_core.registry.aliases import move_alias, version_at
from got_core.registry.config import PromotionConfig
from got_core.registry.held_out import HeldOut, compare_losses, loss_fault
from got_core.registry.log import CHALLENGER, WEIGHTS_TAG
from got_core.registry.rescore import CannotScoreError, Scorer
from got_core.registry.results import BenchmarkResult, read_results, store_results
from got_core.registry.rule import Comparison, compare, fault_of, needs_overall, no_primary, primary_score
from got_core.registry.standing import CHAMPION
from got_core.registry.tracking import MlflowClient, connect

REASON_TAG = "promotion"
FIGURES_TAG = "promotion_figures"

Results = Mapping[str, BenchmarkResult]


@dataclass(frozen=True)
class PromotionDecision:
    """What was decided and why."""

    promoted: bool
    reason: str
    challenger: str | None = None
    """Version that was compared."""

    champion: str | None = None
    """Version that is champion afterwards."""

    benchmarks: list[dict[str, Any]] = field(default_factory=list)
    """As `rule.Comparison.benchmarks`; empty if nothing was compared."""

    tasks: list[dict[str, Any]] = field(default_factory=list)
    """As `rule.Comparison.tasks`."""

    scored_again: list[str] = field(default_factory=list)
    """Benchmarks by which the champion was scored again first."""

    def markdown(self) -> str:
        """The figures as two markdown tables, empty if nothing was compared."""
        if not (self.benchmarks or self.tasks):
            return ""
        overall = [
            [
                one["benchmark"],
                *_values(one),
                f"{one['margin']:.3f}",
                one["verdict"],
            ]
            for one in self.benchmarks
        ]
        tasks = [
            [
                f"{one['benchmark']}/{one['task']}",
                *_values(one),
                f"{one['gained']} and {one['lost']}",
                f"{one['p']:.3g}",
                f"{one['threshold']:.3g}",
                one["verdict"],
            ]
            for one in self.tasks
        ]
        both = ["champion", "challenger", "difference"]
        return "\n\n".join(
            [
                _table(["benchmark", *both, "margin", "verdict"], overall),
                _table(["task", *both, "gained and lost", "p (worse)", "Holm's threshold", "verdict"], tasks),
            ]
        )


def _values(row: Mapping[str, Any]) -> list[str]:
    return [f"{row['champion']:.3f}", f"{row['challenger']:.3f}", f"{row['difference']:+.3f}"]


def _table(header: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows))


def promote(
    name: str = "got",
    *,
    tracking_uri: str,
    config: PromotionConfig | None = None,
    scorer: Scorer | None = None,
) -> PromotionDecision:
    """Move `@champion` to `@challenger` if the rule allows it (`rule.compare`), and write the decision on the
    challenger's version.

    Without a champion, a challenger with whole scores becomes the first one. `scorer`: today's benchmarks and
    their protocols; by those of them for which the champion has no comparable result it is scored again
    first, and the result is kept with its version. Without a scorer, or if that is impossible, the champion
    stays, and the reason says what to do. Of a scorer without benchmarks, held-out losses are compared
    (`held_out.compare_losses`). Repeating it changes nothing. Raises ValueError if there is no challenger at
    all, and what a benchmark raises.
    """
    client, config = connect(tracking_uri), config or PromotionConfig()
    challenger, champion = version_at(client, name, CHALLENGER), version_at(client, name, CHAMPION)
    if challenger is None:
        raise ValueError(f"model {name!r} has no @{CHALLENGER} in {tracking_uri}; register one first")
    if champion is not None and champion.version == challenger.version:
        version = str(champion.version)
        return PromotionDecision(False, f"version {version} is the champion already", version, version)
    decision = _decide(client, challenger, champion, config, scorer, tracking_uri)
    for key, text in ((REASON_TAG, decision.reason), (FIGURES_TAG, decision.markdown())):
        client.set_model_version_tag(name, str(challenger.version), key, text)
    if decision.promoted:  # last: once it has moved, nothing is decided or written again
        move_alias(client, name, CHAMPION, str(challenger.version), decision.reason)
    return decision


def _decide(
    client: MlflowClient,
    challenger: ModelVersion,
    champion: ModelVersion | None,
    config: PromotionConfig,
    scorer: Scorer | None,
    tracking_uri: str,
) -> PromotionDecision:
    version, current = str(challenger.version), None if champion is None else str(champion.version)
    stays = PromotionDecision(False, "", version, current)
    if scorer is not None and not scorer.config.benchmarks:
        return _decide_by_loss(challenger, champion, stays)
    results, held = (read_results(client, one) if one else {} for one in (challenger, champion))
    today = scorer.protocols() if scorer else _protocols(held) | _protocols(results)
    if fault := _challenger_fault(results, today, config, first=champion is None):
        return replace(stays, reason=f"version {version} {fault}")
    if champion is None:
        return _first(version)
    if _same_weights(challenger, champion):
        return _same(stays)
    old = {
        one: fault
        for one, digest in today.items()
        if (fault := fault_of(held.get(one), digest, needs_overall=needs_overall(one, config)))
    }
    if old:
        if reason := _score_again(client, champion, old, scorer, tracking_uri):
            return replace(stays, reason=reason)
        held = read_results(client, client.get_model_version(champion.name, str(champion.version)))
    before, after = ({one: side[one] for one in today if one in side} for side in (held, results))
    return _decision(compare(before, after, config), stays, list(old))


def _decide_by_loss(
    challenger: ModelVersion, champion: ModelVersion | None, stays: PromotionDecision
) -> PromotionDecision:
    version = str(challenger.version)
    if fault := loss_fault(HeldOut.of_version(challenger)):
        return replace(stays, reason=f"version {version} {fault}")
    if champion is None:
        return _first(version)
    if _same_weights(challenger, champion):
        return _same(stays)
    return _decision(compare_losses(champion, challenger, WEIGHTS_TAG), stays, [])


def _first(version: str) -> PromotionDecision:
    return PromotionDecision(True, "there was no champion yet", version, version)


def _same(stays: PromotionDecision) -> PromotionDecision:
    reason = f"version {stays.challenger} has the weights of champion version {stays.champion}"
    return replace(stays, reason=reason)


def _same_weights(challenger: ModelVersion, champion: ModelVersion) -> bool:
    return challenger.tags.get(WEIGHTS_TAG) == champion.tags.get(WEIGHTS_TAG, "")


def _protocols(results: Results) -> dict[str, str]:
    return {name: one.scores["protocol_digest"] for name, one in results.items()}


def _decision(verdict: Comparison, stays: PromotionDecision, scored_again: list[str]) -> PromotionDecision:
    return replace(
        stays,
        promoted=verdict.promoted,
        reason=verdict.reason,
        champion=stays.challenger if verdict.promoted else stays.champion,
        benchmarks=verdict.benchmarks,
        tasks=verdict.tasks,
        scored_again=scored_again,
    )


def _challenger_fault(
    results: Results, today: Mapping[str, str], config: PromotionConfig, first: bool
) -> str | None:
    """Why the challenger cannot become champion, whatever the champion's scores; `first`: there is none."""
    if not today:
        return "has no benchmark result; run the benchmarks and register it again"
    for one, digest in today.items():
        overall = needs_overall(one, config)
        if fault := fault_of(results.get(one), digest, by_sample=not first, needs_overall=overall):
            return (
                f"cannot be compared: its result of {one} {fault}; run that benchmark and register it again"
            )
    score = primary_score({one: results[one] for one in today}, config.primary)
    if score is None or not math.isfinite(score):
        return f"cannot be compared: {no_primary(results, config.primary)}"
    return None


def _score_again(
    client: MlflowClient,
    champion: ModelVersion,
    old: Mapping[str, str],
    scorer: Scorer | None,
    tracking_uri: str,
) -> str | None:
    """Score the champion by the benchmarks in `old` (name to what is wrong with its result); why not, or
    None."""
    faults = "; ".join(f"its result of {one} {fault}" for one, fault in old.items())
    who = f"champion version {champion.version} stays: {faults}"
    by_hand = f"or move the alias {CHAMPION} of {champion.name} by hand"
    if scorer is None:
        return f"{who}, and nothing was given to score it again with; give promote() a scorer, {by_hand}"
    scorer.report(f"champion version {champion.version} is scored again: {faults}")
    try:
        made = scorer.score(champion, old, tracking_uri)
    except CannotScoreError as error:
        return (
            f"{who}, and it cannot be scored again: {error}; put its files back and promote again, {by_hand}"
        )
    store_results(client, champion.name, champion, made, tracking_uri)
    return None
