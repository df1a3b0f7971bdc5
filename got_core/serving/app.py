"""The application: routes, errors and counting put together around one model.

Belongs here: putting together. Not here: routes and what they do.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from got_core.server_settings import ServeSettings
from got_core.serving import got_api, images_api, status_api
from got_core.serving.answers import Publisher
from got_core.serving.context import Serving
from got_core.serving.engine import Engine
from got_core.serving.errors import add_handlers
from got_core.serving.gate import Gate, bearer_scheme, check_listening
from got_core.serving.metrics import Metrics
from got_core.serving.models import ModelSlot, ServedModel

_ABOUT = """Pictures that are planned in words and boxes before they are drawn.

`/v1/images/...` is OpenAI's images API: point its clients at this server's `/v1`. `/v1/got/...` gives the
plan out and takes it back changed. A PNG says in its metadata how it was drawn.
"""


def make_app(slot: ModelSlot, settings: ServeSettings, publisher: Publisher | None = None) -> FastAPI:
    """The application of a model. Raises ValueError for an address that needs a token."""
    token = settings.token.get_secret_value() if settings.token else None
    check_listening(settings.host, token)
    metrics = Metrics()
    engine = Engine(slot, most_waiting=settings.queue, gather=settings.gather, meter=metrics)
    serving = Serving(
        slot=slot,
        engine=engine,
        settings=settings,
        publisher=replace(publisher or Publisher(), on_withheld=metrics.withheld.inc),
        metrics=metrics,
    )
    app = FastAPIOffline(
        title="got serve", description=_ABOUT, version="1", redoc_url=None, lifespan=_lifespan
    )
    app.state.serving = serving
    for router in (images_api.router, got_api.router, status_api.router):
        app.include_router(router)
    add_handlers(app)
    app.add_middleware(_Counted, metrics=metrics)
    app.add_middleware(Gate, token=token, max_bytes=settings.max_bytes)
    _describe_token(app)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    serving: Serving = app.state.serving

    def swapped(model: ServedModel) -> None:
        serving.metrics.swaps.inc()
        serving.metrics.serving(model.name)

    serving.metrics.serving(serving.slot.current.name)
    serving.engine.start()
    serving.slot.watch(serving.settings.watch, swapped)
    yield
    serving.slot.stop()
    serving.engine.stop()


class _Counted:
    """Counts answers and their seconds by route."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.monotonic(), 500

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, noted)
        finally:
            # The path of the route: a path that somebody made up is no label.
            route = getattr(scope.get("route"), "path", "other")
            self.metrics.requests.labels(route, str(status)).inc()
            self.metrics.seconds.labels(route).observe(time.monotonic() - started)


def _describe_token(app: FastAPI) -> None:
    """The token in the OpenAPI page."""
    plain = app.openapi

    def described() -> dict[str, Any]:
        schema = plain()
        schema.setdefault("components", {})["securitySchemes"] = {"token": bearer_scheme()}
        schema["security"] = [{"token": []}, {}]
        return schema

    app.openapi = described  # type: ignore[method-assign]
