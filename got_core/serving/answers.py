"""From what was drawn to the bodies of answers.

Belongs here: files of pictures, their metadata and checks, JSON. Not here: drawing (`engine`).
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from got_core.inference.plan_document import plan_document
from got_core.registry.picture_file import CONTENT_TYPES, PictureNote, picture_bytes
from got_core.registry.rows import Made, Plan
from got_core.serving.engine import Job
from got_core.serving.errors import ApiError

Withheld = Callable[[Image.Image], str | None]
"""Why a picture is not given out; None where it is."""
Sign = Callable[[bytes, str, PictureNote], bytes]
"""A file (and its kind) with a signed manifest about its note."""


def _nothing(image: Image.Image) -> str | None:
    return None


def _unsigned(data: bytes, kind: str, note: PictureNote) -> bytes:
    return data


@dataclass(frozen=True, kw_only=True)
class Publisher:
    """Makes files of pictures that may be given out."""

    withheld: Withheld = _nothing
    sign: Sign = _unsigned
    on_withheld: Callable[[], None] = field(default=lambda: None)

    def file(
        self, made: Made, kind: str = "png", quality: int | None = None
    ) -> tuple[bytes | None, str | None]:
        """The bytes, or why there are none. Runs in a thread of its own: it computes."""
        if made.image is None:
            return None, made.error or "nothing was drawn"
        if (reason := self.withheld(made.image)) is not None:
            self.on_withheld()
            return None, reason
        data = picture_bytes(made.image, made.note, kind, quality)
        return (self.sign(data, kind, made.note) if made.note else data), None


def images_answer(
    job: Job, made: Sequence[Made], files: Sequence[tuple[bytes | None, str | None]], body: Any
) -> dict[str, Any]:
    """The images API's answer. Raises ApiError where a picture was not drawn or is withheld: that API has no
    place for the error of one picture."""
    kind = body.output_format or "png"
    data = []
    for one, (content, reason) in zip(made, files, strict=True):
        if content is None:
            code = "content_policy_violation" if one.image is not None else None
            raise ApiError(400, reason or "", code=code)
        packed = base64.b64encode(content).decode()
        url = body.response_format == "url"
        data.append(
            {
                "b64_json": None if url else packed,
                "url": f"data:{CONTENT_TYPES[kind]};base64,{packed}" if url else None,
                "revised_prompt": one.plan.chain.to_data() or None,
                "seed": one.seed,
            }
        )
    size = made[0].image.size if made and made[0].image else (0, 0)
    return {
        "created": int(time.time()),
        "data": data,
        "output_format": kind,
        "size": f"{size[0]}x{size[1]}",
        "model": model_name(job),
    }


def plan_answer(job: Job, plan: Plan) -> dict[str, Any]:
    """A plan as a document."""
    row = job.rows[0]
    document = plan_document(plan.chain, row.prompt, None, plan.dropped, row.source)
    return {**document, "model": model_name(job)}


def draw_answer(
    job: Job, made: Sequence[Made], files: Sequence[tuple[bytes | None, str | None]]
) -> dict[str, Any]:
    """Pictures and their plan."""
    pictures = [
        {
            "image": None if content is None else base64.b64encode(content).decode(),
            "seed": one.seed,
            "error": reason,
        }
        for one, (content, reason) in zip(made, files, strict=True)
    ]
    return {"plan": plan_answer(job, made[0].plan), "pictures": pictures, "model": model_name(job)}


def model_name(job: Job) -> str:
    """Of the version that answered."""
    return job.model.name if job.model else ""
