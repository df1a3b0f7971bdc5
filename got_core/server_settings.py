"""Settings of servers: the models that annotate, the one that judges, and this project's own (`got serve`,
`got studio`).

Belongs here: ``GOT_ANNOTATOR_*``, ``GOT_JUDGE_*``, ``GOT_SERVE_*`` and ``GOT_STUDIO_*``. Not here: all
other settings (``got_core.settings``), or what is made from these.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, FilePath, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from got_core.annotate.config import Boxes, LengthName, OpenAIConfig, VLLMConfig
from got_core.annotate.vision_models import BoxUnit
from got_core.evaluate.judges.config import MOST_LOGPROBS, JudgeConfig

_OF_ENGINES = ("replicas", "engine", "gpu", "python", "cpus")


class AnnotatorServer(BaseSettings):
    """The models that annotate, behind an OpenAI-compatible server (``GOT_ANNOTATOR_URL`` and its like) or in
    vLLM's engines on the Ray cluster."""

    model_config = SettingsConfigDict(
        env_prefix="GOT_ANNOTATOR_",
        env_file=".env",
        env_ignore_empty=True,
        env_parse_none_str="none",
        extra="ignore",
        frozen=True,
    )

    url: str | None = None
    """Base URL up to and with the version, such as http://gpu-1:8000/v1."""

    vision_model: str | None = None
    """Name of the model that is shown pictures."""

    vision_revision: str = ""
    """Which weights stand behind the name; a new one means new answers."""

    text_url: str | None = None
    """Server of the text model. Not set: the same."""

    text_model: str | None = None
    """Name of the model for questions about texts alone. Not set: the vision model."""

    text_revision: str = ""
    """As ``vision_revision``, of the text model."""

    key: SecretStr | None = None
    """Sent as a bearer token."""

    concurrency: int = 32
    """Questions under way at once, of all shards and processes of a machine with the same home together."""

    timeout: float = 180.0
    """Seconds for one reply."""

    refusals_in_a_row: int = 20
    """Refused requests without an answer in between after which a shard stops."""

    box_unit: BoxUnit | None = None
    """How the vision model gives boxes: Qwen2-VL and Qwen3-VL in thousandths, Qwen2.5-VL in pixels. Not set:
    by the model's name, if it is one of these."""

    image_side: int = 1024
    """Longer side of pictures as they are sent, in pixels, at most."""

    image_factor: int | None = None
    """Sides of pictures as they are sent are multiples of this: 28 for Qwen2-VL and Qwen2.5-VL, 32 for
    Qwen3-VL. Not set: by the model's name."""

    image_min_pixels: int | None = None
    """Pixels of a picture as it is sent, at least. Not set: by the model's name."""

    image_max_pixels: int | None = None
    """Pixels of a picture as it is sent, at most: no more than the server's processor takes. Not set:
    1,003,520."""

    boxes: Boxes = "together"
    """Whether all boxes of a picture are asked for in one request (`together`), or each in its own (`one by
    one`). Answers stored the other way are kept."""

    length_name: LengthName | None = None
    """What the server calls the limit of a reply's length. Not set: it is found out."""

    thinking_tokens: int = 0
    """Tokens that a reply may have beyond the usual, for models that reason before they answer."""

    send_schema: bool = True
    """Whether the JSON schema of a reply goes with the question."""

    temperature: float | None = 0.0
    """Sampling temperature; ``none`` sends none, for servers that take only their own."""

    seed: int | None = 0
    """Sampling seed; ``none`` sends none."""

    price_in: float = 0.0
    """Price of a million tokens read."""

    price_out: float = 0.0
    """Price of a million tokens written."""

    budget: float | None = None
    """Money for one shard, which is never exceeded. Not set: no limit."""

    budget_tokens: int | None = None
    """Tokens for one shard. Not set: no limit."""

    budget_per_day: float | None = None
    """Money for a day (UTC), all processes that share the storage together. Not set: no limit."""

    budget_tokens_per_day: int | None = None
    """Tokens for a day (UTC), all processes together. Not set: no limit."""

    replicas: int = 1
    """Only of ``vllm``: engines side by side, each on as many GPUs as GOT_ANNOTATOR_ENGINE says."""

    engine: dict[str, Any] = Field(default_factory=dict)
    """Only of ``vllm``: arguments of vLLM's engine as JSON, such as {"tensor_parallel_size": 4}."""

    gpu: bool = True
    """Only of ``vllm``: whether engines take GPUs."""

    python: str | None = None
    """Only of ``vllm``: full path of the Python of vLLM's environment, on every machine. Not set: Ray's."""

    cpus: int = 8
    """Only of ``vllm``: processes that open and encode pictures; as many prepare them for the engines."""

    def engines(self) -> VLLMConfig:
        """What the annotator on a Ray cluster is made from. Raises ValueError without vision model."""
        if not self.vision_model:
            raise ValueError("GOT_ANNOTATOR=vllm needs models: set GOT_ANNOTATOR_VISION_MODEL")
        named = self.model_dump(exclude={"key", "url", "text_url", "vision_model"})
        return VLLMConfig(vision_model=self.vision_model, **named)

    def config(self) -> OpenAIConfig:
        """What the annotator is made from. Raises ValueError without URL or vision model."""
        if not self.url or not self.vision_model:
            raise ValueError(
                "GOT_ANNOTATOR=openai needs a server: set GOT_ANNOTATOR_URL and GOT_ANNOTATOR_VISION_MODEL"
            )
        named = self.model_dump(exclude={"key", "url", "vision_model", *_OF_ENGINES})
        key = self.key.get_secret_value() if self.key else None
        return OpenAIConfig(url=self.url, vision_model=self.vision_model, api_key=key, **named)


class ServeSettings(BaseSettings):
    """How `got serve` listens, what it takes, and how the model is loaded."""

    model_config = SettingsConfigDict(
        env_prefix="GOT_SERVE_",
        env_file=".env",
        env_ignore_empty=True,
        env_parse_none_str="none",
        extra="ignore",
        frozen=True,
    )

    host: str = "127.0.0.1"
    """Address to listen at; any but a loopback one needs a token."""

    port: int = Field(default=8100, ge=0, le=65535)
    """0: a free one."""

    token: SecretStr | None = None
    """What clients have to send as a bearer token."""

    names: str = ""
    """Further names of models, with commas between, that requests may ask for, such as gpt-image-1."""

    max_bytes: int = Field(default=32 * 1024 * 1024, ge=1024)
    """Bytes of a request, at most."""

    max_pictures: int = Field(default=10, ge=1, le=100)
    """Pictures of a request, at most."""

    max_steps: int = Field(default=200, ge=1)
    """Sampler steps, at most."""

    max_pixels: int | None = Field(default=None, ge=64)
    """Pixels of a picture that is drawn, at most. Not set: four times the model's own."""

    queue: int = Field(default=64, ge=1)
    """Pictures that wait at once; what comes beyond is answered with 429."""

    gather: float = Field(default=0.02, ge=0, le=5)
    """Seconds for which a first request waits for others to be drawn with it."""

    watch: float = Field(default=10.0, gt=0)
    """Seconds between two looks at the alias."""

    device: str = "auto"
    """As torch names devices."""

    dtype: str | None = None
    """Number format, such as bfloat16. Not set: as the model was saved."""

    offload: str = "none"
    """``model`` or ``sequential``: parts are on the GPU only while they compute."""

    eight_bits: bool = False
    """The language model in 8 bits (needs bitsandbytes)."""

    batch: int | None = Field(default=None, ge=1)
    """Pictures drawn in one call, at most. Not set: by free memory."""

    max_unsafe: float | None = Field(default=None, ge=0, le=1)
    """Pictures with a higher score of the OpenNSFW classifier are withheld. Not set: none is looked at."""

    c2pa_certificate: FilePath | None = None
    """Certificates (PEM), the signer's first, of the C2PA manifest that PNG, JPEG and WebP files then get."""

    c2pa_key: FilePath | None = None
    """Private key (PEM) that goes with them."""

    c2pa_algorithm: Literal["es256", "es384", "es512", "ps256", "ps384", "ps512", "ed25519"] = "es256"
    """What the key signs with."""

    @model_validator(mode="after")
    def _together(self) -> Self:
        if (self.c2pa_certificate is None) != (self.c2pa_key is None):
            raise ValueError("GOT_SERVE_C2PA_CERTIFICATE and GOT_SERVE_C2PA_KEY belong together: set both")
        return self


class StudioSettings(BaseSettings):
    """How `got studio` listens, who may come in, and who draws. A model of its own has the limits of
    ``GOT_SERVE_*``."""

    model_config = SettingsConfigDict(
        env_prefix="GOT_STUDIO_",
        env_file=".env",
        env_ignore_empty=True,
        env_parse_none_str="none",
        extra="ignore",
        frozen=True,
    )

    host: str = "127.0.0.1"
    """Address to listen at; any but a loopback one needs accounts."""

    port: int = Field(default=8200, ge=0, le=65535)
    """0: a free one."""

    users: SecretStr | None = None
    """Accounts as name:password, with commas between. Not set: nobody is asked."""

    server: str | None = None
    """URL of a `got serve` that plans and draws. Not set: the studio loads the model itself."""

    server_token: SecretStr | None = None
    """What that server wants as a bearer token."""

    feedback: Path | None = None
    """Folder of the rows that artists give. Not set: ``studio`` in GOT_HOME."""

    max_bytes: int = Field(default=256 * 1024 * 1024, ge=1024)
    """Bytes of an uploaded file, at most; a saved project may have as many as the default."""

    at_once: int = Field(default=16, ge=1)
    """Drawings under way together; further ones wait, four times as many at most."""


class JudgeServer(BaseSettings):
    """The vision model that judges pictures, behind an OpenAI-compatible server (``GOT_JUDGE_URL`` and its
    like); GenEval 2 wants one that gives log-probabilities."""

    model_config = SettingsConfigDict(
        env_prefix="GOT_JUDGE_",
        env_file=".env",
        env_ignore_empty=True,
        env_parse_none_str="none",
        extra="ignore",
        frozen=True,
    )

    url: str | None = None
    """Base URL up to and with the version, such as http://gpu-1:8000/v1."""

    model: str | None = None
    """Name that the server knows the model by."""

    revision: str = ""
    """Which weights stand behind the name; a new one means new answers, and another protocol."""

    served_as: str | None = None
    """What the server calls the model in its replies. Not set: the same."""

    key: SecretStr | None = None
    """Sent as a bearer token."""

    top_logprobs: int = MOST_LOGPROBS
    """Tokens whose log-probabilities GenEval 2 asks for; what lies outside counts as 0, with a bound."""

    thinking_tokens: int = 0
    """Tokens that a reply in words may have beyond what its question allows, for models that reason first."""

    concurrency: int = 32
    """Questions under way at once."""

    timeout: float = 180.0
    """Seconds for one reply."""

    refusals_in_a_row: int = 20
    """Refused requests without an answer in between after which judging stops."""

    temperature: float | None = 0.0
    """Sampling temperature; ``none`` sends none."""

    length_name: LengthName | None = None
    """What the server calls the limit of a reply's length. Not set: it is found out."""

    price_in: float = 0.0
    """Price of a million tokens read."""

    price_out: float = 0.0
    """Price of a million tokens written."""

    budget: float | None = None
    """Money for all answers that are kept in one place. Not set: no limit."""

    budget_tokens: int | None = None
    """Tokens for the same. Not set: no limit."""

    def config(self) -> JudgeConfig | None:
        """What a judge is made from; None without URL and model. Raises ValueError where one is missing."""
        if not self.url and not self.model:
            return None
        if not self.url or not self.model:
            raise ValueError("a judge needs a server and a model: set both GOT_JUDGE_URL and GOT_JUDGE_MODEL")
        key = self.key.get_secret_value() if self.key else None
        named = self.model_dump(exclude={"key", "url", "model"})
        return JudgeConfig(url=self.url, model=self.model, api_key=key, **named)
