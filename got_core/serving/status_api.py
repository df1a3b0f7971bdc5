"""`/health`, `/ready`, `/metrics`, `/v1/models`: what runs here, and how it does.

Belongs here: what a cluster and a client ask before they send work. Not here: the counters (`metrics`).
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response
from prometheus_client import CONTENT_TYPE_LATEST

from got_core.serving.context import Serving, serving_of
from got_core.serving.errors import ApiError

router = APIRouter(tags=["Status"])
ServingOf = Annotated[Serving, Depends(serving_of)]


@router.get("/health", summary="Whether the process works")
async def health(serving: ServingOf) -> dict[str, str]:
    """200 as long as requests are answered at all."""
    if not serving.engine.alive:
        raise ApiError(503, "nothing is drawn any more: start the server again")
    return {"status": "ok"}


@router.get("/ready", summary="Whether requests can be sent")
async def ready(serving: ServingOf) -> dict[str, Any]:
    """The model that is served; `behind` says why the one that the alias names now is not."""
    if not serving.engine.alive:
        raise ApiError(503, "nothing is drawn any more: start the server again")
    return {"status": "ready", "model": serving.slot.current.name, "behind": serving.slot.failed}


@router.get("/metrics", response_class=Response, summary="Counters for Prometheus")
async def metrics(serving: ServingOf) -> Response:
    """In Prometheus' text format."""
    serving.metrics.behind.set(serving.slot.failed is not None)
    return Response(serving.metrics.text(), media_type=CONTENT_TYPE_LATEST)


@router.get("/v1/models", summary="Names of the served model")
async def models(serving: ServingOf) -> dict[str, Any]:
    """As OpenAI's API lists models, with the sizes of pictures."""
    reader = serving.reader()
    sizes = [f"{width}x{height}" for width, height in serving.slot.current.sizes]
    listed = [
        {"id": name, "object": "model", "created": 0, "owned_by": "got", "sizes": sizes}
        for name in reader.names()
    ]
    return {"object": "list", "data": listed}
