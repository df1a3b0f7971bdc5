"""OpenAI's images API: `/v1/images/generations` and `/v1/images/edits`, so that its clients work unchanged.

Belongs here: that API's fields and events. Not here: ranges and drawing (`reading`, `engine`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Request
from pydantic import ValidationError
from starlette.datastructures import FormData, UploadFile

from got_core.registry.rows import Made
from got_core.serving.answers import images_answer
from got_core.serving.context import EventStream, Serving, error_event, event, serving_of
from got_core.serving.engine import Job
from got_core.serving.errors import bad_request
from got_core.serving.reading import picture_cell
from got_core.serving.schemas import FAULTS, Generation, ImagesAnswer

router = APIRouter(prefix="/v1/images", tags=["OpenAI's images API"])
ServingOf = Annotated[Serving, Depends(serving_of)]

_SETTINGS = (
    *("num_inference_steps", "text_scale", "spatial_scale", "reference_scale"),
    *("guidance_from", "guidance_until", "guidance_every", "repair"),
)
_EXAMPLES: dict[str, Any] = {
    "a picture": {"value": {"prompt": "a photo of a red circle and a blue square"}},
    "two pictures with a seed": {"value": {"prompt": "a photo of a star", "n": 2, "seed": 7}},
    "fewer steps, JPEG": {
        "value": {"prompt": "a photo of a star", "num_inference_steps": 4, "output_format": "jpeg"}
    },
}
_FILES = ("image", "image[]")


class Edit(Generation):
    """The fields of `POST /v1/images/edits` beside the picture."""

    keep_outside: bool = False
    input_fidelity: str | None = None


@router.post(
    "/generations",
    response_model=ImagesAnswer,
    response_model_exclude_none=True,
    responses=FAULTS,
    summary="Draw pictures",
)
async def generations(
    body: Annotated[Generation, Body(openapi_examples=_EXAMPLES)], serving: ServingOf, request: Request
) -> Any:
    """Plans and draws. With `stream` the finished pictures come as server-sent events
    (`image_generation.completed`), and progress as comments between them."""
    return await _answered(serving, request, body, {"prompt": body.prompt}, "image_generation")


@router.post(
    "/edits",
    response_model=ImagesAnswer,
    response_model_exclude_none=True,
    responses=FAULTS,
    summary="Edit a picture",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "required": ["image", "prompt"],
                        "properties": {
                            "image": {"type": "string", "format": "binary"},
                            "prompt": {"type": "string", "example": "remove the red circle"},
                            "model": {"type": "string"},
                            "n": {"type": "integer", "minimum": 1},
                            "size": {"type": "string", "example": "auto"},
                            "response_format": {"type": "string", "enum": ["b64_json", "url"]},
                            "output_format": {"type": "string", "enum": ["png", "jpeg", "webp"]},
                            "seed": {"type": "integer"},
                            "num_inference_steps": {"type": "integer", "minimum": 1},
                            "keep_outside": {"type": "boolean"},
                            "stream": {"type": "boolean"},
                        },
                    }
                }
            },
        }
    },
)
async def edits(request: Request, serving: ServingOf) -> Any:
    """Edits one picture as the prompt says. `mask` is refused: the plan's boxes say where an edit goes
    (`keep_outside` leaves the rest as it is)."""
    async with request.form(max_files=4, max_fields=64, max_part_size=1 << 20) as form:
        body = _edit_body(form)
        data = await _picture(form)
    cells = {"prompt": body.prompt, "image": picture_cell(data)}
    return await _answered(serving, request, body, cells, "image_edit", {"keep_outside": body.keep_outside})


async def _answered(
    serving: Serving,
    request: Request,
    body: Generation,
    cells: dict[str, Any],
    kind: str,
    more: dict[str, Any] | None = None,
) -> Any:
    job = await serving.read(_job, serving, body, cells, more or {})
    if body.stream:
        progress = _Progress(job)
        future = serving.begin(job)  # where there is no room, before any event is sent
        work = asyncio.ensure_future(serving.finish(future))
        return EventStream(_events(serving, job, body, kind, progress, work), work)
    made = await serving.answer(job, request)
    files = await serving.files(made, body.output_format or "png", body.output_compression)
    return images_answer(job, made, files, body)


def _job(serving: Serving, body: Generation, cells: dict[str, Any], more: dict[str, Any]) -> Job:
    if body.background == "transparent":
        raise bad_request("`background` cannot be transparent: pictures are opaque")
    if body.partial_images:
        raise bad_request("`partial_images` must be 0: unfinished pictures are not sent")
    reader = serving.reader()
    reader.check_name(body.model)
    given = {name: getattr(body, name) for name in _SETTINGS} | more
    if (size := reader.size(body.size)) is not None:
        given |= {"height": size[0], "width": size[1]}
    given["num_images_per_prompt"] = body.n or 1
    return reader.job({**cells, "seed": body.seed}, given)


class _Progress:
    """A job's steps as comments, which clients pass over."""

    def __init__(self, job: Job) -> None:
        self.comments: asyncio.Queue[str] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        job.on_step = self._told

    def _told(self, step: int, steps: int) -> None:
        self._loop.call_soon_threadsafe(self.comments.put_nowait, f": step {step} of {steps}\n\n")


async def _events(
    serving: Serving,
    job: Job,
    body: Generation,
    kind: str,
    progress: _Progress,
    work: asyncio.Future[list[Made]],
) -> AsyncIterator[bytes]:
    """Comments while it draws, then an event a picture; the status has been sent, so errors are events."""
    try:
        async for comment in _until(work, progress.comments):
            yield comment
        made = work.result()
        files = await serving.files(made, body.output_format or "png", body.output_compression)
        answer = images_answer(job, made, files, body)
        for picture in answer["data"]:
            yield _completed(answer, picture, kind)
    except Exception as error:
        yield error_event(error)


async def _until(work: asyncio.Future[Any], comments: asyncio.Queue[str]) -> AsyncIterator[bytes]:
    """The comments that come before work is done."""
    while not work.done():
        waiting = asyncio.ensure_future(comments.get())
        try:
            await asyncio.wait({work, waiting}, return_when=asyncio.FIRST_COMPLETED)
            if waiting.done():
                yield waiting.result().encode()
        finally:
            waiting.cancel()  # also where the client goes away


def _completed(answer: dict[str, Any], picture: dict[str, Any], kind: str) -> bytes:
    name = f"{kind}.completed"
    usage = {
        "input_tokens": 0,
        "output_tokens": 0,
        "total_tokens": 0,
        "input_tokens_details": {"image_tokens": 0, "text_tokens": 0},
    }
    return event(
        name,
        {
            "type": name,
            "b64_json": picture["b64_json"] or picture["url"].partition(",")[2],
            "created_at": answer["created"],
            "size": answer["size"],
            "quality": "auto",
            "background": "opaque",
            "output_format": answer["output_format"],
            "usage": usage,
            "seed": picture["seed"],
            "model": answer["model"],
        },
    )


# -- forms --------------------------------------------------------------------------------------------

_WHOLE = ("n", "seed", "num_inference_steps", "guidance_every", "output_compression", "partial_images")
_NUMBERS = ("text_scale", "spatial_scale", "reference_scale", "guidance_from", "guidance_until")
_SWITCHES = ("stream", "repair", "keep_outside")


def _edit_body(form: FormData) -> Edit:
    """The form's fields as a body. Raises ApiError, naming the field."""
    if "mask" in form:
        raise bad_request(
            "`mask` is not supported: this model edits by the boxes of its plan; leave it out, or send "
            "`keep_outside` to leave the picture as it is outside of them"
        )
    fields: dict[str, Any] = {}
    for name, value in form.multi_items():
        if name in _FILES:
            continue
        if not isinstance(value, str):
            raise bad_request(f"`{name}` must be a text, not a file", param=name[:64])
        if name in fields:
            raise bad_request(f"`{name}` is there twice", param=name[:64])
        fields[name] = _value(name, value)
    try:
        return Edit.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "body"
        raise bad_request(f"{where}: {first['msg']}", param=where) from error


def _value(name: str, text: str) -> Any:
    """A field's text as the type that it has; what is none is left, to be refused by name."""
    try:
        if name in _WHOLE:
            return int(text[:40])
        if name in _NUMBERS:
            return float(text)
    except ValueError:
        return text
    if name in _SWITCHES:
        return {"true": True, "false": False, "1": True, "0": False}.get(text.lower(), text)
    return text


async def _picture(form: FormData) -> bytes:
    """The bytes of the one picture. Raises ApiError."""
    given = [value for name in _FILES for value in form.getlist(name)]
    if len(given) != 1:
        raise bad_request(f"`image` must be one picture, got {len(given)}", param="image")
    if not isinstance(given[0], UploadFile):
        raise bad_request("`image` must be a file", param="image")
    return await given[0].read()
