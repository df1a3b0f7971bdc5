"""Losses and sample pictures of a training run, sent to MLflow, and progress lines on the terminal."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from matplotlib.figure import Figure
from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException
from PIL import Image

from got_core.registry.tracking import connect, ensure_experiment
from got_core.train.run import TrainingRun
from got_core.train.sending import Sender

EXPERIMENT = "got-training"
PATIENCE = 120.0
"""Seconds that a finished training waits for MLflow at most; a failed one waits a tenth of it."""
FIGURES = {
    "gradient_norm",
    "samples_per_second",
    "data_wait_share",
    "memory_gb",
    "gpu_seconds",
    "cpu_seconds",
    "skipped_steps",
    "substituted_pictures",
}
"""Metrics of how a training goes, beside ``rate/...``; all others are losses."""


@dataclass
class Tracker:
    """One MLflow run. An inactive tracker (ranks above 0) does nothing.

    What is logged goes to MLflow in its own time: a server that is slow or away holds nothing up.
    """

    client: MlflowClient | None
    run_id: str
    title: str
    report: Callable[[str], None] = print
    started: float = field(default_factory=time.monotonic)
    sender: Sender | None = None
    _done: int = 0
    """Steps since ``started``: not those before an interruption."""
    _last: dict[str, float] = field(default_factory=dict)
    _history: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    """Losses of this process, by name: step and value."""

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
        run_id, sender = _find_or_create(client, run, title, resume_key), Sender(run.report)
        try:
            yield cls(client, run_id, title, run.report, sender=sender)
        except BaseException:
            sender.put(lambda: client.set_terminated(run_id, "FAILED"))
            sender.close(PATIENCE / 10)
            raise
        sender.put(lambda: client.set_terminated(run_id, "FINISHED"))
        sender.close(PATIENCE)

    def log(self, part: str, step: int, losses: dict[str, float], note: str = "") -> None:
        """Log losses of a named part and print them, with a note behind."""
        self._send({f"{part}/{name}".replace(" ", "_"): value for name, value in losses.items()}, step)
        self.report(", ".join(filter(None, [f"{part}: step {step}, {_spelled(losses)}", note])))

    def log_steps(
        self, step: int, steps: int, count: int, losses: dict[str, float], figures: dict[str, float]
    ) -> None:
        """Log what the last ``count`` steps came to, and print losses with the expected time left.

        The time left follows from the steps of this process alone.
        """
        if self.client is None:
            return
        self._done += count
        self._keep(losses, step)
        self._send(losses | figures, step)
        left = (time.monotonic() - self.started) / self._done * (steps - step)
        skipped = figures.get("skipped_steps", 0)
        spelled = [_spelled(losses), f"{skipped:.0f} skipped" if skipped else ""]
        self.report(
            f"{self.title}: step {step} of {steps}, {', '.join(filter(None, spelled))}, "
            f"about {left / 60:.0f} min left"
        )

    def log_losses(self, step: int, losses: dict[str, float]) -> None:
        """Log other losses of a step and print them."""
        if self.client is not None and losses:
            self._keep(losses, step)
            self._send(losses, step)
            self.report(f"{self.title}: step {step}, {_spelled(losses)}")

    def _keep(self, losses: dict[str, float], step: int) -> None:
        self._last |= losses
        for name, value in losses.items():
            self._history.setdefault(name, []).append((step, value))

    def log_image(self, name: str, image: Image.Image | None) -> None:
        """Keep a picture, where there is one, as an artifact of the run."""
        if self.client is not None and self.sender is not None and image is not None:
            self.sender.put(partial(self.client.log_image, self.run_id, image, name))

    def last(self) -> dict[str, float]:
        """Last losses: of this process, or those that the run it goes on with has logged.

        Empty where there is neither.
        """
        if self._last or self.client is None:
            return self._last
        metrics = self.client.get_run(self.run_id).data.metrics
        return {name: value for name, value in metrics.items() if is_loss(name)}

    def plot(self) -> bytes:
        """PNG of the logged losses over the steps; of this process alone where MLflow does not answer."""
        histories = self._histories()
        names = sorted(histories)
        figure = Figure(figsize=(4 * max(1, len(names)), 3))
        axes = figure.subplots(1, max(1, len(names)), squeeze=False)
        for axis, name in zip(axes[0], names, strict=False):
            axis.plot(*zip(*histories[name], strict=True))
            axis.set(title=name, xlabel="step", yscale="log")
        figure.suptitle(self.title)
        figure.tight_layout()
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=80)
        return buffer.getvalue()

    def _histories(self) -> dict[str, list[tuple[int, float]]]:
        assert self.client is not None and self.sender is not None
        if not self.sender.flush(PATIENCE):
            return self._history
        try:
            names = filter(is_loss, self.client.get_run(self.run_id).data.metrics)
            return {
                name: [(one.step, one.value) for one in self.client.get_metric_history(self.run_id, name)]
                for name in names
            }
        except (MlflowException, OSError) as error:
            self.report(f"{self.title}: the plot shows this process alone, MLflow does not answer: {error}")
            return self._history

    def _send(self, values: dict[str, float], step: int) -> None:
        if self.client is not None and self.sender is not None:
            now = int(time.time() * 1000)
            metrics = [Metric(name, float(value), now, step) for name, value in values.items()]
            self.sender.put(partial(self.client.log_batch, self.run_id, metrics=metrics))


def is_loss(name: str) -> bool:
    """Whether a metric of a training's run is a loss."""
    return name not in FIGURES and not name.startswith("rate/")


def _spelled(losses: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in losses.items())


def _find_or_create(client: MlflowClient, run: TrainingRun, title: str, resume_key: str | None) -> str:
    experiment_id = ensure_experiment(run.tracking_uri, EXPERIMENT)
    if resume_key is not None:
        found = client.search_runs([experiment_id], f"tags.`got.key` = '{resume_key}'", max_results=1)
        if found:
            run_id = found[0].info.run_id
            client.update_run(run_id, status="RUNNING")
            return run_id
    tags = run.tags | {"got.manifest": run.manifest_hash, "got.recipe": run.recipe.name}
    tags |= {"got.key": resume_key} if resume_key else {}
    return client.create_run(experiment_id, tags=tags, run_name=title).info.run_id
