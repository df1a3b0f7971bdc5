"""Settings of the annotator behind an OpenAI-compatible server, as plain data (no HTTP here)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

from got_core.annotate.vision_models import UNKNOWN, BoxUnit, VisionModel, known_model
from got_core.digests import execution

Boxes = Literal["together", "one by one"]
LengthName = Literal["max_tokens", "max_completion_tokens"]
LENGTH_NAMES: tuple[LengthName, ...] = ("max_tokens", "max_completion_tokens")
"""What servers call the limit of a reply's length; the older name is known to more of them."""


@dataclass(frozen=True, kw_only=True)
class OpenAIConfig:
    """Which server and models annotate, how many requests at once, and what that may cost.

    Raises:
        ValueError: a value outside its range, naming the field.
    """

    url: str = execution()
    """Base URL up to and with the version, such as http://gpu-1:8000/v1."""

    vision_model: str
    """Model that is shown pictures, by the name the server knows it by."""

    text_url: str | None = execution(None)
    """Server of the text model where it is another one (vLLM serves one model). None: the same."""

    text_model: str | None = None
    """Model for questions about texts alone. None: the vision model."""

    vision_revision: str = ""
    """Which weights stand behind the name: part of every answer's key: a new one means new answers."""

    text_revision: str = ""
    """The same of the text model."""

    api_key: str | None = execution(None, shown=False)
    """Sent as a bearer token."""

    concurrency: int = execution(32)
    """Questions under way at once, at most."""

    timeout: float = execution(180.0)
    """Seconds for one reply, at most."""

    attempts: int = 3
    """Replies to one question; from the second on the request says what was wrong with the last one."""

    retries: int = execution(5)
    """Failed requests of one question (5xx, timeouts) after which it is given up in this run, if others go
    well."""

    refusals_in_a_row: int = execution(20)
    """Refused requests (HTTP 400 and the like) without an answer in between after which the shard stops."""

    patience: float = execution(600.0)
    """Seconds without any reply from the server after which the shard stops, to be resumed later."""

    first_wait: float = execution(0.5)
    """Seconds before the first retry; doubled with each one."""

    longest_wait: float = execution(30.0)
    """Seconds between two retries, at most, unless the server asks for more."""

    max_reply_bytes: int = execution(1 << 20)
    """Size of a response, at most; reading stops there."""

    image_side: int = 1024
    """Longer side of pictures as they are sent, in pixels, at most."""

    image_factor: int | None = None
    """Sides of pictures as they are sent are multiples of this, so that the model's processor leaves them as
    they are: patch size times merge size, 28 for Qwen2-VL and Qwen2.5-VL, 32 for Qwen3-VL. None: by the
    vision model's name; 28 for an unknown one that gives boxes in thousandths."""

    image_min_pixels: int | None = None
    """Width times height of pictures as they are sent, at least. None: what the model's processor asks for by
    default."""

    image_max_pixels: int | None = None
    """Width times height of pictures as they are sent, at most. None: what processors take by default."""

    image_quality: int = 90
    """JPEG quality of pictures as they are sent."""

    box_unit: BoxUnit | None = None
    """How the vision model gives boxes, whatever the prompt wants: Qwen2-VL and Qwen3-VL in thousandths,
    Qwen2.5-VL in pixels of the picture sent. None: by the vision model's name; an unknown name is an
    error."""

    boxes: Boxes = execution("together")
    """Whether the boxes of a picture are asked for in one request, or each in its own. Those that a request
    for all leaves open are asked one by one; what was answered one by one stays good."""

    length_name: LengthName | None = execution(None)
    """Name of the request's limit of length. None: max_tokens, and max_completion_tokens where a server wants
    that."""

    thinking_tokens: int = 0
    """Tokens that a reply may have beyond the usual, for models that reason before they answer."""

    send_schema: bool = True
    """Whether the JSON schema of a reply goes with the question (response_format); the prompt says it
    anyway."""

    temperature: float | None = 0.0
    """Sampling temperature; None sends none."""

    seed: int | None = 0
    """Sampling seed; None sends none."""

    price_in: float = execution(0.0)
    """Price of a million tokens read, in any currency."""

    price_out: float = execution(0.0)
    """Price of a million tokens written."""

    budget: float | None = execution(None)
    """Money for one shard, all steps together. None: no limit."""

    budget_tokens: int | None = execution(None)
    """Tokens (read and written) for one shard, all steps together. None: no limit."""

    budget_per_day: float | None = execution(None)
    """Money for a day (UTC), all processes that share the storage together. None: no limit."""

    budget_tokens_per_day: int | None = execution(None)
    """Tokens (read and written) for a day (UTC), all processes together. None: no limit."""

    gpu_tokens_in: float = execution(6000.0)
    """Tokens a second that one GPU reads; only for the estimate of GPU hours."""

    gpu_tokens_out: float = execution(1200.0)
    """Tokens a second that one GPU writes, all questions together; only for the estimate of GPU hours."""

    gpu_price: float = execution(0.0)
    """Price of a GPU hour, for own servers; only for the estimate."""

    def __post_init__(self) -> None:
        for name in ("url", "text_url"):
            _check_url(name, getattr(self, name))
        if not self.vision_model:
            raise ValueError("OpenAIConfig.vision_model must name a model of the server")
        at_least_one = ("concurrency", "attempts", "max_reply_bytes", "image_quality", "refusals_in_a_row")
        for name in at_least_one:
            if getattr(self, name) < 1:
                raise ValueError(f"OpenAIConfig.{name} must be at least 1, not {getattr(self, name)}")
        if self.boxes not in get_args(Boxes):
            raise ValueError(f"OpenAIConfig.boxes must be `together` or `one by one`, not {self.boxes!r}")
        self._check_vision()
        for name in ("timeout", "patience", "first_wait", "longest_wait", "gpu_tokens_in", "gpu_tokens_out"):
            if not getattr(self, name) > 0:
                raise ValueError(f"OpenAIConfig.{name} must be positive, not {getattr(self, name)}")
        for name in (
            "retries",
            "thinking_tokens",
            "temperature",
            "price_in",
            "price_out",
            "budget",
            "budget_tokens",
            "budget_per_day",
            "budget_tokens_per_day",
            "gpu_price",
        ):
            if not (getattr(self, name) is None or getattr(self, name) >= 0):
                raise ValueError(f"OpenAIConfig.{name} must not be negative, not {getattr(self, name)}")

    @cached_property
    def vision(self) -> VisionModel:
        """Unit of boxes and sizes of pictures: as they are set, else by the vision model's name."""
        known = known_model(self.vision_model)
        if known is None and self.box_unit is None:
            raise ValueError(
                f"nothing is known of a vision model {self.vision_model!r} by its name: set "
                "OpenAIConfig.box_unit (GOT_ANNOTATOR_BOX_UNIT) to `pixels` for Qwen2.5-VL and what is made "
                "from it, to `thousandths` for others"
            )
        if known is None and self.box_unit == "pixels" and self.image_factor is None:
            raise ValueError(
                f"boxes of {self.vision_model!r} in pixels mean nothing without its processor's factor: set "
                "OpenAIConfig.image_factor (GOT_ANNOTATOR_IMAGE_FACTOR), 28 for what is made from Qwen2.5-VL"
            )
        named: dict[str, Any] = {
            "box_unit": self.box_unit,
            "factor": self.image_factor,
            "min_pixels": self.image_min_pixels,
            "max_pixels": self.image_max_pixels,
        }
        return replace(known or UNKNOWN, **{k: v for k, v in named.items() if v is not None})

    def _check_vision(self) -> None:
        vision = self.vision
        if vision.factor < 1 or vision.min_pixels < 0:
            raise ValueError("OpenAIConfig.image_factor must be at least 1, image_min_pixels not negative")
        if (self.image_side // vision.factor * vision.factor) ** 2 < max(vision.min_pixels, 1):
            raise ValueError(
                f"OpenAIConfig.image_side = {self.image_side} leaves no picture of at least "
                f"{vision.min_pixels} pixels whose sides are multiples of {vision.factor}: raise it, or "
                "lower image_min_pixels"
            )
        if vision.max_pixels < 2 * max(vision.min_pixels, vision.factor**2):
            raise ValueError(
                f"OpenAIConfig.image_max_pixels = {vision.max_pixels} must be at least twice "
                f"image_min_pixels ({vision.min_pixels}) and the square of image_factor ({vision.factor})"
            )

    def endpoint(self, vision: bool) -> str:
        """Where questions about pictures, or about texts alone, are sent."""
        base = self.url if vision or self.text_url is None else self.text_url
        return f"{base.rstrip('/')}/chat/completions"

    def model(self, vision: bool) -> tuple[str, str]:
        """Name and revision of the model for pictures, or for texts alone."""
        if vision or self.text_model is None:
            return self.vision_model, self.vision_revision
        return self.text_model, self.text_revision

    def price(self, tokens_in: int, tokens_out: int) -> float:
        """What so many tokens cost."""
        return (tokens_in * self.price_in + tokens_out * self.price_out) / 1e6


@dataclass(frozen=True, kw_only=True)
class VLLMConfig(OpenAIConfig):
    """The same questions for vLLM's engines on a Ray cluster. Models are folders, or names to be downloaded.

    Raises:
        ValueError: a value outside its range, or a budget: engines of one's own have none.
    """

    url: str = execution("http://localhost/v1")
    """Not used: there is no server."""

    replicas: int = execution(1)
    """Engines side by side; each takes as many GPUs as `engine` says (tensor and pipeline parallel size)."""

    engine: dict[str, Any] = execution(factory=dict)
    """Arguments of vLLM's engine, such as {"tensor_parallel_size": 4}."""

    gpu: bool = execution(True)
    """Whether engines take GPUs; else one core each (vLLM's CPU build)."""

    python: str | None = execution(None)
    """Python of vLLM's environment on every machine of the cluster. None: the one that Ray itself runs on."""

    cpus: int = execution(8)
    """CPU actors at most, each with a core: those that open and encode pictures, and as many that prepare
    them for the engine."""

    batch_size: int = execution(32)
    """Questions that an engine is handed at once; it works on eight such batches at a time."""

    rows_per_task: int = execution(8)
    """Rows that a CPU actor takes at once."""

    idle_seconds: float = execution(300.0)
    """Seconds after which engines that are not asked anything end."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("replicas", "cpus", "batch_size", "rows_per_task"):
            if getattr(self, name) < 1:
                raise ValueError(f"VLLMConfig.{name} must be at least 1, not {getattr(self, name)}")
        if not self.idle_seconds > 0:
            raise ValueError(f"VLLMConfig.idle_seconds must be positive, not {self.idle_seconds}")
        limits = (self.budget, self.budget_tokens, self.budget_per_day, self.budget_tokens_per_day)
        if any(limit is not None for limit in limits):
            raise ValueError("a budget is kept only where a server is asked (GOT_ANNOTATOR=openai)")


def _check_url(name: str, url: str | None) -> None:
    if url is None:
        return
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"OpenAIConfig.{name} must be a URL such as http://gpu-1:8000/v1, not {url!r}")
    if parts.username or parts.password:
        raise ValueError(f"OpenAIConfig.{name} must not hold a name or password; set the API key instead")
