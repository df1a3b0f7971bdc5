"""Where things are: the ``GOT_*`` environment variables (and ``.env``) with their defaults resolved.

Belongs here: places and addresses. Does not belong here: how anything is computed (that is a recipe).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import AliasChoices, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from got_core.annotate.config import Boxes, LengthName, OpenAIConfig, VLLMConfig
from got_core.annotate.vision_models import BoxUnit
from got_core.corpus.ahead import IO_THREADS
from got_core.evaluate.geneval2.config import MOST_LOGPROBS, JudgeConfig
from got_core.filesystems import is_s3
from got_core.registry.reference import SCHEME, check_registered
from got_core.sqlite_urls import sqlite_url
from got_core.storage import local_path
from got_core.train.config import Device

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
    """The vision model that judges pictures by questions, behind an OpenAI-compatible server that gives
    log-probabilities (``GOT_JUDGE_URL`` and its like)."""

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
    """Tokens whose log-probabilities are asked for; what lies outside counts as 0, with a bound."""

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


class Settings(BaseSettings):
    """Read once per process. An empty variable counts as not set; relative paths become absolute.

    Raises:
        pydantic.ValidationError: a value that is not understood, naming the setting.
    """

    model_config = SettingsConfigDict(
        env_prefix="GOT_",
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        populate_by_name=True,
        validate_default=True,
    )

    home: Path = Path("var")
    """Folder of everything that runs leave behind: corpus, storage, tracking, Dagster's own files."""

    raw: str | None = None
    """Your own images: a folder or fsspec prefix; a name or pattern of tars, parquet or CSV tables; or a list
    of such inputs (.toml). Not set: the rendered scenes."""

    edits: str | None = None
    """Table (CSV or parquet) of your own edit pairs, columns source, target, instruction. Not set with
    GOT_RAW set: no edit pairs."""

    storage: str | None = None
    """fsspec URL of tables and models. Not set: a folder below GOT_HOME."""

    truth: str | None = None
    """Parquet table of the scenes' truth, only to measure the annotator. Not set with GOT_RAW set: none."""

    recipe: str = "embedded"
    """Name of the recipe."""

    repack_tars: bool = False
    """Whether pictures of tars given as input are written into training tars too. Not set: they are read
    where they lie."""

    mixture: Path | None = None
    """TOML file with a table of shares for each training stage whose mixture it replaces. Not set: those of
    the recipe."""

    sdxl: Path | None = None
    """Folder of SDXL in diffusers' layout. With GOT_QWEN: GoT training starts from these weights."""

    sdxl_variant: str | None = None
    """Which of SDXL's weight files to take, such as fp16. Not set: plain ones, or the only variant."""

    qwen: Path | None = None
    """Folder of Qwen2.5-VL as published. Not set: small foundation models are trained from scratch."""

    weights: str | None = None
    """GoT model that training starts from, in place of foundation models: a saved pipeline or a checkpoint in
    the released layout (a folder or its URL), or a registered model, such as models:/got@champion. GOT_SDXL
    and GOT_QWEN then name the configurations of a released checkpoint that has none."""

    benchmarks: Path | None = None
    """Folder that the data and networks of published benchmarks were downloaded to (`got score fetch-list`).
    Not set: published benchmarks cannot be run."""

    annotator: Literal["scenes", "openai", "vllm", "imported"] | None = None
    """What annotates pictures: the scene reader, models behind a server, models in vLLM's engines on the Ray
    cluster, or nothing (`imported`: the chains come from released data sets). Not set: the scene reader for
    rendered scenes, nothing for own images."""

    annotator_server: AnnotatorServer = Field(default_factory=AnnotatorServer)
    """The server of ``openai``."""

    judge_server: JudgeServer = Field(default_factory=JudgeServer)
    """The judge of benchmarks that ask questions about pictures (``geneval2``)."""

    mlflow_uri: str | None = None
    """MLflow tracking URI. Not set: SQLite below GOT_HOME."""

    ray_address: str | None = Field(
        default=None, validation_alias=AliasChoices("GOT_RAY_ADDRESS", "RAY_ADDRESS", "ray_address")
    )
    """Ray cluster (also plain RAY_ADDRESS). Not set: a local Ray, started and stopped by the graph."""

    workers: int | None = Field(default=None, ge=1)
    """Data-parallel workers of training. Not set: all GPUs of the Ray cluster, or on processors as many as
    the recipe says."""

    io_threads: int = Field(default=IO_THREADS, ge=1, le=1024)
    """Pictures read at once for tars and measures of pixels: more for a store that is far away."""
    parallel: int | None = Field(default=None, ge=1)
    """Shards that `got run` works on at once, each in a process of its own. Not set: as many as there are
    cores, 8 at most; 1 with vLLM's engines, which take all GPUs."""

    device: Device = "auto"
    """Where to train. `auto`: on GPUs; on processors where there is no GPU and the model is small."""

    retries: int = Field(default=3, ge=0)
    """Further tries of a step of the data line after a fault that may pass soon."""

    retry_delay: float = Field(default=10.0, ge=0)
    """Seconds before the first of them; doubled with each one."""

    keep_models: float = Field(default=30.0, ge=0)
    """Days that models, manifests and latents stay which nothing names (`got gc`)."""
    keep_benchmarks: float = Field(default=30.0, ge=0)
    """The same of benchmark pictures."""
    keep_checkpoints: float = Field(default=7.0, ge=0)
    """The same of checkpoints of finished trainings but the last."""
    keep_failures: float = Field(default=90.0, ge=0)
    """The same of records of failed runs."""

    s3_endpoint: str | None = None
    """Endpoint of an S3 server other than AWS, such as http://minio:9000."""

    @field_validator("home", "mixture", "sdxl", "qwen", "benchmarks")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return None if value is None else Path(local_path(value) or value)

    @field_validator("raw", "edits", "truth")
    @classmethod
    def _absolute_or_url(cls, value: str | None) -> str | None:
        return None if value is None else str(local_path(value) or value.rstrip("/"))

    @field_validator("weights")
    @classmethod
    def _registered_or_folder(cls, value: str | None) -> str | None:
        if value is None or value.startswith(SCHEME):
            return value if value is None else check_registered(value)
        return str(local_path(value) or value.rstrip("/"))

    @field_validator("storage")
    @classmethod
    def _url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        local = local_path(value)
        return f"file://{local}" if local else value.rstrip("/")

    @model_validator(mode="after")
    def _pairs_of_own_images(self) -> Settings:
        if self.edits and not self.raw:
            raise ValueError(
                "GOT_EDITS is set but GOT_RAW is not: without images of your own the graph renders scenes "
                "and would write its own pair table there; set GOT_RAW too"
            )
        return self

    @model_validator(mode="after")
    def _home_outside_raw(self) -> Settings:
        raw = local_path(self.raw) if self.raw else None
        if raw and self.home.is_relative_to(raw):
            raise ValueError(
                f"GOT_HOME ({self.home}) lies inside GOT_RAW ({raw}), so its files would be taken for input; "
                "set GOT_HOME to a folder elsewhere"
            )
        return self

    @model_validator(mode="after")
    def _both_published(self) -> Settings:
        if (self.sdxl is None) != (self.qwen is None):
            raise ValueError("GOT_SDXL and GOT_QWEN belong together: set both folders, or neither")
        return self

    @model_validator(mode="after")
    def _weights_with_their_own_configurations(self) -> Settings:
        if self.weights and self.weights.startswith(SCHEME) and self.sdxl is not None:
            raise ValueError(
                f"GOT_WEIGHTS={self.weights} is a whole model: unset GOT_SDXL and GOT_QWEN, which name "
                "published weights to start from instead"
            )
        return self

    @property
    def published(self) -> tuple[str, str] | None:
        """Folders of published weights to start from; with ``weights``, of configurations alone."""
        return None if self.sdxl is None else (str(self.sdxl), str(self.qwen))

    @property
    def own_images(self) -> bool:
        """Whether the graph works on the user's images instead of rendered scenes."""
        return self.raw is not None

    @property
    def raw_url(self) -> str:
        """Absolute path (or URL) of the raw image folder."""
        return self.raw or str(self.home / "raw" / "images")

    @property
    def edits_url(self) -> str | None:
        """Absolute path (or URL) of the pair table; None where own images come without one."""
        if self.edits or self.own_images:
            return self.edits
        return str(self.home / "raw" / "edits" / "pairs.csv")

    @property
    def truth_url(self) -> str | None:
        """Absolute path (or URL) of the truth table; None for own images."""
        if self.truth or self.own_images:
            return self.truth
        return str(self.home / "truth" / "scenes.parquet")

    @property
    def storage_url(self) -> str:
        """URL for :class:`got_core.storage.Storage`."""
        return self.storage or f"file://{self.home / 'storage'}"

    @property
    def storage_options(self) -> dict[str, Any]:
        """Keyword arguments for :class:`got_core.storage.Storage` beside the URL."""
        return self.fs_options(self.storage_url)

    @property
    def tracking_uri(self) -> str:
        """MLflow tracking URI. The folder of the default database is made by whoever first writes to it."""
        return self.mlflow_uri or sqlite_url(self.home / "mlflow" / "mlflow.db")

    @property
    def annotator_name(self) -> str | None:
        """The annotator to use; None means that annotation cannot run (own images and none configured)."""
        return self.annotator or (None if self.own_images else "scenes")

    @property
    def chains_imported(self) -> bool:
        """Whether chains come from imported data sets instead of annotation."""
        return self.annotator == "imported"

    @property
    def annotator_config(self) -> OpenAIConfig | None:
        """The models that annotate; None where no model does."""
        if self.annotator == "vllm":
            return self.annotator_server.engines()
        return self.annotator_server.config() if self.annotator == "openai" else None

    def fs_options(self, url: str) -> dict[str, Any]:
        """fsspec options for a URL: the S3 endpoint for what lies on S3 and for a list of inputs, which may
        name such; nothing for anything else."""
        if self.s3_endpoint and (is_s3(url) or url.endswith(".toml")):
            return {"endpoint_url": self.s3_endpoint}
        return {}
