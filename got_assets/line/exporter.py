"""`got metrics` as a process: looks at the line every so often, and answers Prometheus from what it saw.

Belongs here: the loop and the server. Not here: names of metrics (`metrics`), figures (`state`).
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Sequence

import dagster as dg
import uvicorn
from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetGraph
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from got_assets.event_log import EventLog
from got_assets.line.findings import findings
from got_assets.line.metrics import LineMetrics
from got_assets.line.state import DataLine, read_line
from got_assets.project import Project
from got_core.redacted import redacted_url
from got_core.serving.gate import Gate, check_listening
from got_core.serving.run import listening_socket, url_of
from got_core.watch_settings import AlertSettings, MetricsSettings

VARIABLE = "GOT_METRICS_TOKEN"
_MAX_BYTES = 1024
_LATE = 10
"""Looks that may be missed before `/health` says so."""


class Exporter:
    """One look at a time; the figures of the last one that went well are served."""

    def __init__(
        self,
        instance: dg.DagsterInstance,
        graph: BaseAssetGraph,
        lines: Sequence[DataLine],
        project: Project,
        settings: MetricsSettings,
        report: Callable[[str], None] = print,
    ) -> None:
        self._instance, self._graph, self._lines, self._project = instance, graph, lines, project
        self._settings, self._alerts, self._report = settings, AlertSettings(), report
        self.metrics = LineMetrics()
        self._log = EventLog(instance)  # reads each event once
        self._looked: float | None = None
        self._stopped = threading.Event()

    def look(self) -> bool:
        """Read the line once. Whatever fails is counted and told in one sentence; figures then stay."""
        started, alerts = time.monotonic(), self._alerts
        try:
            line = read_line(
                self._instance,
                self._graph,
                self._lines,
                self._project,
                stuck_runs=alerts.stuck_runs,
                trainings=True,
                log=self._log,
            )
            wrong = [one.key for one in findings(line, alerts)]
        except Exception as error:
            self.metrics.faults.inc()
            last = traceback.format_exception_only(error)[-1].strip()
            self._report(f"the line could not be looked at: {redacted_url(' '.join(last.split()))[:300]}")
            return False
        self.metrics.show(line, wrong, time.time(), time.monotonic() - started)
        self._looked = time.monotonic()
        return True

    def run(self) -> None:
        """Look until `stop`."""
        while True:
            self.look()
            if self._stopped.wait(self._settings.every):
                return

    def stop(self) -> None:
        """End `run` after the look under way."""
        self._stopped.set()

    @property
    def late(self) -> bool:
        """Whether figures are much older than they should be, or there are none."""
        return self._looked is None or time.monotonic() - self._looked > _LATE * self._settings.every

    def app(self) -> Starlette:
        """`/metrics`, and `/health` for probes, which needs no token."""
        token = self._settings.token.get_secret_value() if self._settings.token else None
        check_listening(self._settings.host, token, VARIABLE)

        async def metrics(request: Request) -> Response:
            return Response(self.metrics.text(), media_type=CONTENT_TYPE_LATEST)

        async def health(request: Request) -> Response:
            return PlainTextResponse("late" if self.late else "ok", 503 if self.late else 200)

        return Starlette(
            routes=[Route("/metrics", metrics), Route("/health", health)],
            middleware=[Middleware(Gate, token=token, max_bytes=_MAX_BYTES)],
        )


def serve(exporter: Exporter, settings: MetricsSettings, report: Callable[[str], None] = print) -> None:
    """Answer until the process is stopped. Raises ValueError for an address that needs a token, OSError for
    one that is taken."""
    app = exporter.app()
    with listening_socket(settings.host, settings.port) as listening:
        report(f"metrics at {url_of(listening)}/metrics")
        looking = threading.Thread(target=exporter.run, name="looking at the line", daemon=True)
        looking.start()
        try:
            config = uvicorn.Config(app, log_level="warning", access_log=False)
            uvicorn.Server(config).run(sockets=[listening])
        finally:
            exporter.stop()
