"""The bodies of requests and answers, for the OpenAPI page and for reading.

Belongs here: fields and their types. Not here: their ranges, which are those of predictions
(`registry.request`), and what becomes of them (`reading`).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

OutputFormat = Literal["png", "jpeg", "webp"]
Prompt = Annotated[str, Field(min_length=1, max_length=4000, description="What the picture shows.")]


_FIELDS = 64
"""Names in an object, at most: each that is none would get an error of its own."""
_NOTES = 1000
"""Entries of a list that is read and ignored, at most, likewise."""


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _few(cls, given: Any) -> Any:
        if isinstance(given, dict) and len(given) > _FIELDS:
            raise ValueError(f"an object may have {_FIELDS} names, got {len(given)}")
        return given


class GotSettings(_Body):
    """Settings of this server's model, which OpenAI's API does not have; None: the model's own."""

    seed: int | None = Field(
        default=None,
        ge=-(2**63),
        lt=2**64,
        description="Of the noise; that of further pictures goes up by one.",
    )
    num_inference_steps: int | None = Field(default=None, ge=1)
    text_scale: float | None = Field(default=None, ge=-100, le=100, allow_inf_nan=False)
    spatial_scale: float | None = Field(default=None, ge=-100, le=100, allow_inf_nan=False)
    reference_scale: float | None = Field(default=None, ge=-100, le=100, allow_inf_nan=False)
    guidance_from: float | None = Field(default=None, ge=0, le=1, allow_inf_nan=False)
    guidance_until: float | None = Field(default=None, ge=0, le=1, allow_inf_nan=False)
    guidance_every: int | None = Field(default=None, ge=1)
    repair: bool = Field(default=False, description="Move boxes of the plan that fall short of the prompt.")


class Generation(GotSettings):
    """`POST /v1/images/generations`."""

    prompt: Prompt
    model: str | None = Field(default=None, description="Name of the served model.")
    n: int | None = Field(default=1, ge=1, le=100, description="Pictures.")
    size: str | None = Field(
        default="auto", description="`auto`, or one of the model's sizes such as 1024x1024."
    )
    response_format: Literal["b64_json", "url"] | None = Field(
        default="b64_json", description="`url` gives data: URLs."
    )
    output_format: OutputFormat | None = "png"
    output_compression: int | None = Field(
        default=None, ge=0, le=100, description="Quality of JPEG and WebP."
    )
    stream: bool | None = False
    partial_images: int | None = Field(default=0, ge=0, le=3, description="Only 0: no unfinished pictures.")
    background: Literal["auto", "opaque", "transparent"] | None = Field(
        default="auto", description="`transparent` is refused."
    )
    quality: str | None = Field(default=None, description="Read and ignored.")
    style: str | None = Field(default=None, description="Read and ignored.")
    moderation: str | None = Field(default=None, description="Read and ignored.")
    user: str | None = Field(default=None, description="Read and ignored.")


class ChainBox(_Body):
    """A box of a plan: thousandths of the picture's sides."""

    phrase: str
    box: list[int] = Field(min_length=4, max_length=4, description="x1, y1, x2, y2 in 0..999")


class PlanBody(_Body):
    """A plan as JSON. Either `chain` or `boxes` may have been changed; `planned` tells which."""

    chain: str = Field(max_length=20_000)
    boxes: list[ChainBox] | None = Field(default=None, max_length=100)
    planned: str | None = Field(default=None, max_length=20_000)
    prompt: str | None = None
    image: None = None
    faults: list[str] | None = Field(default=None, max_length=_NOTES, description="Read and ignored.")
    dropped: list[dict[str, Any]] | None = Field(
        default=None, max_length=_NOTES, description="Read and ignored."
    )
    model: str | None = Field(default=None, description="Read and ignored.")


class PlanRequest(_Body):
    """`POST /v1/got/plan`."""

    prompt: Prompt
    image: str | None = Field(
        default=None, description="Picture to edit: base64 of a JPEG, PNG or WebP file."
    )
    repair: bool = False
    max_new_tokens: int | None = Field(default=None, ge=1, le=4096)


class DrawRequest(GotSettings):
    """`POST /v1/got/draw`."""

    prompt: Prompt
    chain: str | PlanBody | None = Field(
        default=None, description="The plan, as text or as `/v1/got/plan` answers; missing: the model's own."
    )
    image: str | None = Field(
        default=None, description="Picture to edit: base64 of a JPEG, PNG or WebP file."
    )
    earlier: str | None = Field(
        default=None,
        description="Picture to draw again with another plan: base64 of a PNG file that carries its own; it "
        "stays outside the boxes in which the two differ.",
    )
    n: int = Field(default=1, ge=1, le=100)
    height: int | None = Field(default=None, ge=1, le=8192)
    width: int | None = Field(default=None, ge=1, le=8192)
    keep_outside: bool | None = Field(default=None, description="Of edits: keep what lies outside the boxes.")
    max_new_tokens: int | None = Field(default=None, ge=1, le=4096)
    output_format: OutputFormat = "png"
    stream: bool = Field(default=False, description="Progress as server-sent events.")


class ImageData(BaseModel):
    """A picture of the images API."""

    b64_json: str | None = None
    url: str | None = None
    revised_prompt: str | None = Field(default=None, description="The plan that was drawn.")
    seed: int


class ImagesAnswer(BaseModel):
    """What OpenAI's clients read."""

    created: int
    data: list[ImageData]
    background: Literal["opaque"] = "opaque"
    output_format: OutputFormat = "png"
    size: str
    quality: str = "auto"
    model: str = Field(description="The version that drew.")


class PlanAnswer(BaseModel):
    """A plan that `/v1/got/draw` takes as `chain`."""

    prompt: str
    image: None = None
    chain: str
    boxes: list[ChainBox]
    planned: str
    faults: list[str] | None
    dropped: list[dict[str, Any]]
    model: str


class DrawnPicture(BaseModel):
    """A picture, or why it is withheld."""

    image: str | None = Field(description="base64 of the file.")
    seed: int
    error: str | None = None


class DrawAnswer(BaseModel):
    """Pictures with their plan."""

    plan: PlanAnswer
    pictures: list[DrawnPicture]
    model: str


class ErrorDetail(BaseModel):
    """What is wrong, in a sentence."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorAnswer(BaseModel):
    """As OpenAI's API answers errors."""

    error: ErrorDetail


FAULTS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorAnswer, "description": "A request that cannot be used."},
    401: {"model": ErrorAnswer, "description": "No token, or a wrong one."},
    404: {"model": ErrorAnswer, "description": "A model that is not served here."},
    413: {"model": ErrorAnswer, "description": "A body that is too large."},
    429: {"model": ErrorAnswer, "description": "Too much waits; see Retry-After."},
}
"""Of all routes that draw."""
