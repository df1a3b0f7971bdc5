"""The line's figures as Prometheus reads them.

Belongs here: names of metrics, and what each is filled with. Not here: reading figures (`state`), serving
them (`exporter`).
"""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from got_assets.line.state import Line

_PREFIX = "got_line_"


class LineMetrics:
    """All metrics of one exporter. Figures are replaced as a whole: nothing stays of what is gone."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

        def gauge(name: str, text: str, *labels: str) -> Any:
            return Gauge(f"{_PREFIX}{name}", text, labels, registry=self.registry)

        self.shards = gauge("shards", "Shards by state.", "kind", "state")
        self.rows = gauge("rows", "Rows of all shards' tables by verdict.", "asset", "verdict")
        self.tokens = gauge("tokens", "Tokens of the answers in these tables.", "asset", "direction")
        self.money = gauge("money", "Cost of the answers in these tables.", "asset")
        self.runs = gauge("runs", "Runs that have not ended.", "status")
        self.limit = gauge("budget_limit", "Budget of the day (UTC).", "unit")
        self.taken = gauge("budget_taken", "What of it is spent or set aside.", "unit")
        self.step = gauge("training_step", "Last step of a training that is known.", "stage")
        self.steps = gauge("training_steps", "Steps of a whole training.", "stage")
        self.speed = gauge("training_samples_per_second", "As last logged.", "stage")
        self.unfinished = gauge("training_unfinished", "1 while a training is not finished.", "stage")
        self.disk = gauge("disk_free_bytes", "Free bytes of local disks.", "place")
        self.wrong = gauge("findings", "What is wrong, as alerts tell it.", "key")
        self.looked = gauge("looked_timestamp_seconds", "When all this was last read.")
        self.took = gauge("look_seconds", "How long that took.")
        self.faults = Counter(
            f"{_PREFIX}look_faults", "Looks that failed: figures are older.", registry=self.registry
        )

    def show(self, line: Line, wrong: list[str], now: float, seconds: float) -> None:
        """Replace all figures by those of a line; ``wrong``: keys of findings."""
        _fill(self.shards, line.shard_counts())
        _fill(self.rows, line.rows)
        _fill(self.tokens, line.tokens)
        _fill(self.money, {(asset,): value for asset, value in line.money.items()})
        _fill(self.runs, {(status.lower(),): count for status, count in line.runs.items()})
        _fill(self.limit, {(one.unit,): one.limit for one in line.budgets})
        _fill(self.taken, {(one.unit,): one.taken for one in line.budgets})
        _fill(self.disk, {(place,): free for place, free in line.disks.items()})
        _fill(self.wrong, {(key,): 1 for key in wrong})
        self._show_trainings(line)
        self.looked.set(now)
        self.took.set(seconds)

    def _show_trainings(self, line: Line) -> None:
        _fill(self.step, {(one.stage,): one.logged_step or one.step for one in line.stages})
        _fill(self.steps, {(one.stage,): one.steps for one in line.stages})
        _fill(self.unfinished, {(one.stage,): int(one.state == "unfinished") for one in line.stages})
        name = "samples_per_second"
        _fill(self.speed, {(one.stage,): one.metrics[name] for one in line.stages if name in one.metrics})

    def names(self) -> set[str]:
        """Names of all metrics, as queries spell them."""
        return {f"{one.name}_total" if one.type == "counter" else one.name for one in self.registry.collect()}

    def text(self) -> bytes:
        """In Prometheus' format."""
        return generate_latest(self.registry)


def _fill(metric: Any, values: dict[tuple[str, ...], float] | Any) -> None:
    metric.clear()
    for labels, value in values.items():
        metric.labels(*labels).set(value)
