"""Losses and sample pictures of a training run, sent to MLflow, and progress lines on the terminal."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from matplotlib.figure import Figure
from mlflow import MlflowClient
from mlflow.entities import Metric
from PIL import Image

from got_core.registry.tracking import connect, ensure_experiment
from got_core.train.run import TrainingRun

EXPERIMENT = "got-training"
WINDOW = 25
"""Steps over which logged losses are averaged."""


@dataclass
class Tracker:
    """One MLflow run. An inactive tracker (ranks above 0) does nothing."""

    client: MlflowClient | None
    run_id: str
    title: str
    report: Callable[[str], None] = print
    started: float = field(default_factory=time.monotonic)
    _sums: dict[str, float] = field(default_factory=dict)
    _count: int = 0
    _done: int = 0
    """Steps since ``started``: not those before an interruption."""
    _last: dict[str, float] = field(default_factory=dict)

    @classmethod
    @contextmanager
    def start(
        cls, run: TrainingRun, title: str, resume_key: str | None = None, active: bool = True
    ) -> Iterator[Tracker]:
        """Open a run, or the one that already carries ``resume_key``; it ends as finished or failed."""
        if not active:
            yield cls(None, "", title)
            return
        client = connect(run.tracking_uri)
        run_id = _find_or_create(client, run, title, resume_key)
        try:
            yield cls(client, run_id, title, run.report)
        except BaseException:
            client.set_terminated(run_id, "FAILED")
            raise
        client.set_terminated(run_id, "FINISHED")

    def log(self, part: str, step: int, losses: dict[str, float]) -> None:
        """Log losses of a named part and print them."""
        self._send({f"{part}/{name}".replace(" ", "_"): value for name, value in losses.items()}, step)
        self.report(f"{part}: step {step}, {_spelled(losses)}")

    def log_step(self, step: int, steps: int, losses: dict[str, float]) -> None:
        """Average losses over a window of steps, then log and print them with the expected time left.

        Call it once a step. The time left follows from the steps of this process alone.
        """
        if self.client is None:
            return
        self._done += 1
        for name, value in losses.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._count += 1
        if self._count < WINDOW and step < steps:
            return
        self._last = {name: total / self._count for name, total in self._sums.items()}
        self._sums, self._count = {}, 0
        self._send(self._last, step)
        left = (time.monotonic() - self.started) / self._done * (steps - step)
        self.report(
            f"{self.title}: step {step} of {steps}, {_spelled(self._last)}, about {left / 60:.0f} min left"
        )

    def log_image(self, name: str, image: Image.Image | None) -> None:
        """Keep a picture, where there is one, as an artifact of the run."""
        if self.client is not None and image is not None:
            self.client.log_image(self.run_id, image, name)

    def last(self) -> dict[str, float]:
        """Losses over the last window: of this process, or those that the run it goes on with has logged.

        Empty where there is neither.
        """
        if self._last or self.client is None:
            return self._last
        return dict(self.client.get_run(self.run_id).data.metrics)

    def plot(self) -> bytes:
        """PNG of the logged losses over the steps."""
        assert self.client is not None
        names = sorted(self.client.get_run(self.run_id).data.metrics)
        figure = Figure(figsize=(4 * max(1, len(names)), 3))
        axes = figure.subplots(1, max(1, len(names)), squeeze=False)
        for axis, name in zip(axes[0], names, strict=False):
            history = self.client.get_metric_history(self.run_id, name)
            axis.plot([m.step for m in history], [m.value for m in history])
            axis.set(title=name, xlabel="step", yscale="log")
        figure.suptitle(self.title)
        figure.tight_layout()
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=80)
        return buffer.getvalue()

    def _send(self, values: dict[str, float], step: int) -> None:
        if self.client is not None:
            now = int(time.time() * 1000)
            metrics = [Metric(name, float(value), now, step) for name, value in values.items()]
            self.client.log_batch(self.run_id, metrics=metrics)


def _spelled(losses: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in losses.items())


def _find_or_create(client: MlflowClient, run: TrainingRun, title: str, resume_key: str | None) -> str:
    experiment_id = ensure_experiment(run.tracking_uri, EXPERIMENT)
    if resume_key is not None:
        found = client.search_runs([experiment_id], f"tags.`got.key` = '{resume_key}'", max_results=1)
        if found:
            return found[0].info.run_id
    tags = run.tags | {"got.manifest": run.manifest_hash, "got.recipe": run.recipe.name}
    tags |= {"got.key": resume_key} if resume_key else {}
    return client.create_run(experiment_id, tags=tags, run_name=title).info.run_id
