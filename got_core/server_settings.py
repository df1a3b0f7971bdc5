"""Settings of models behind servers: those that annotate, and the one that judges.

Belongs here: ``GOT_ANNOTATOR_*`` and ``GOT_JUDGE_*``. Not here: all other settings (``got_core.settings``),
or what is made from these.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field, SecretStr
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
