"""`/v1/got/plan` and `/v1/got/draw`: the plan in the caller's hands, as JSON.

Belongs here: these two routes. Not here: plans as documents (`got_core.inference.plan_document`).
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Request

from got_core.registry.rows import Made, Plan
from got_core.serving.answers import draw_answer, plan_answer
from got_core.serving.context import Events, EventStream, Serving, serving_of
from got_core.serving.engine import Job
from got_core.serving.errors import of_exception
from got_core.serving.reading import chain_text
from got_core.serving.schemas import FAULTS, DrawAnswer, DrawRequest, PlanAnswer, PlanRequest

router = APIRouter(prefix="/v1/got", tags=["Plans and pictures"])
ServingOf = Annotated[Serving, Depends(serving_of)]

_PLAN_EXAMPLES: dict[str, Any] = {
    "a plan": {"value": {"prompt": "a photo of a red circle and a blue square"}},
    "repaired": {"value": {"prompt": "a photo of two stars", "repair": True}},
}
_CHAIN = "a red circle (120,340),(380,600)"
_DRAW_EXAMPLES: dict[str, Any] = {
    "from the model's own plan": {"value": {"prompt": "a photo of a red circle", "seed": 1}},
    "from a plan as text": {"value": {"prompt": "a photo of a red circle", "chain": _CHAIN, "seed": 1}},
    "from a plan with a moved box": {
        "value": {
            "prompt": "a photo of a red circle",
            "chain": {
                "chain": _CHAIN,
                "planned": _CHAIN,
                "boxes": [{"phrase": "a red circle", "box": [600, 600, 900, 900]}],
            },
        }
    },
}
_PARAMETERS = (
    *("num_inference_steps", "text_scale", "spatial_scale", "reference_scale"),
    *("guidance_from", "guidance_until", "guidance_every"),
    *("height", "width", "keep_outside", "repair", "max_new_tokens"),
)


@router.post("/plan", response_model=PlanAnswer, responses=FAULTS, summary="Write a plan, draw nothing")
async def plan(
    body: Annotated[PlanRequest, Body(openapi_examples=_PLAN_EXAMPLES)], serving: ServingOf, request: Request
) -> dict[str, Any]:
    """The plan as a document: change its `chain` or its `boxes` and send it as `chain` to `/v1/got/draw`."""
    given = {"plan_only": True, "repair": body.repair, "max_new_tokens": body.max_new_tokens}
    cells = {"prompt": body.prompt, "image": body.image, "seed": 0}
    job = await serving.read(serving.reader().job, cells, given)
    (made,) = await serving.answer(job, request)
    return await serving.read(plan_answer, job, made.plan)


@router.post(
    "/draw", response_model=DrawAnswer, responses=FAULTS, summary="Draw, from a plan if one is given"
)
async def draw(
    body: Annotated[DrawRequest, Body(openapi_examples=_DRAW_EXAMPLES)], serving: ServingOf, request: Request
) -> Any:
    """Pictures with their plan. With `stream`: server-sent events `plan`, `progress`, `done` or `error`."""
    given = {name: getattr(body, name) for name in _PARAMETERS} | {"num_images_per_prompt": body.n}
    cells = {name: getattr(body, name) for name in ("prompt", "image", "earlier", "seed")}
    cells["chain"] = chain_text(body.chain)
    job = await serving.read(serving.reader().job, cells, given)
    if body.stream:
        return _streamed(serving, job, body)
    return await _answer(serving, job, await serving.answer(job, request), body)


async def _answer(serving: Serving, job: Job, made: list[Made], body: DrawRequest) -> dict[str, Any]:
    return await serving.read(draw_answer, job, made, await serving.files(made, body.output_format))


def _streamed(serving: Serving, job: Job, body: DrawRequest) -> EventStream:
    events, name = Events(), serving.slot.current.name

    def on_plans(job: Job, plans: list[Plan]) -> None:
        events.on_plans(plans, job, name)

    job.on_step, job.on_plans = events.on_step, on_plans
    future = serving.begin(job)  # where there is no room, before any event is sent

    async def work() -> None:
        try:
            events.put("done", await _answer(serving, job, await serving.finish(future), body))
        except Exception as error:
            events.put("error", of_exception(error).body())
        events.close()

    return EventStream(events.stream(), asyncio.ensure_future(work()))
