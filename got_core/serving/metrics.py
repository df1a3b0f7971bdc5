"""What the server counts, as Prometheus reads it.

Belongs here: names of metrics. Not here: serving them (`status_api`), deciding anything by them.
"""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_PICTURES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Counters of one server, apart from those of other servers in the process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

        def named(kind: type, name: str, text: str, labels: tuple[str, ...] = (), **options: object) -> Any:
            return kind(f"got_{name}", text, labels, registry=self.registry, **options)

        self.requests = named(Counter, "requests", "Requests answered.", ("route", "status"))
        self.seconds = named(
            Histogram, "request_seconds", "Seconds of a request.", ("route",), buckets=_SECONDS
        )
        self.pictures = named(Counter, "pictures", "Pictures drawn.")
        self.calls = named(Histogram, "call_pictures", "Pictures drawn in one call.", buckets=_PICTURES)
        self.joined = named(Counter, "joined_requests", "Requests that shared a call with another one.")
        self.busy = named(Counter, "drawing_seconds", "Seconds of planning and drawing.")
        self.queue = named(Gauge, "queue_pictures", "Pictures that wait.")
        self.withheld = named(Counter, "withheld_pictures", "Pictures that the safety check withheld.")
        self.swaps = named(Counter, "swaps", "Models that were swapped in.")
        self.model = named(Gauge, "model", "1 for the model that is served.", ("name",))
        self.behind = named(Gauge, "model_behind", "1 while the version that the alias names does not load.")

    def drawn(self, jobs: int, pictures: int, seconds: float) -> None:
        """A call has ended."""
        self.pictures.inc(pictures)
        self.calls.observe(pictures)
        self.busy.inc(seconds)
        if jobs > 1:
            self.joined.inc(jobs)

    def waiting(self, pictures: int) -> None:
        """The queue has changed."""
        self.queue.set(pictures)

    def serving(self, name: str) -> None:
        """This model is served from now on."""
        self.model.clear()
        self.model.labels(name).set(1)

    def text(self) -> bytes:
        """In Prometheus' format."""
        return generate_latest(self.registry)
