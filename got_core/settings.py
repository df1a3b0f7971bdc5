"""Where things are: the ``GOT_*`` environment variables (and ``.env``) with their defaults resolved.

Belongs here: places and addresses. Does not belong here: how anything is computed (that is a recipe).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import AliasChoices, Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from got_core.annotate.config import OpenAIConfig
from got_core.corpus.ahead import IO_THREADS
from got_core.filesystems import is_s3
from got_core.model.config import ModelConfig
from got_core.model.formats.foundation_folder import TRAIN, FoundationFolder, chosen_folder
from got_core.registry.reference import SCHEME, check_registered
from got_core.server_settings import AnnotatorServer, JudgeServer
from got_core.sqlite_urls import sqlite_url
from got_core.storage import local_path
from got_core.train.config import Device


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
    """Folder of Qwen2.5-VL as published."""

    foundation: str | None = None
    """What training starts from without published weights: a folder that `got foundation` wrote, or `train`
    for small foundation models trained anew. Not set: the weights that come with the package, where it has
    some of the recipe's sizes and the pictures are scenes; else they are trained anew."""

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

    ray_jobs: str | None = None
    """Job server of a Ray cluster, such as http://ray-head:8265, that training is submitted to from outside
    of the cluster. Not set: the process that trains is itself a driver of the cluster."""

    workers: int | None = Field(default=None, ge=0)
    """Data-parallel workers of training. Not set: all GPUs of the Ray cluster, or on processors as many as
    the recipe says. 0: none, the graph's own process trains, without Ray."""

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

    @field_validator("ray_jobs")
    @classmethod
    def _job_server(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            raise ValueError(
                f"GOT_RAY_JOBS={value} is no address of a job server, such as http://ray-head:8265; the "
                "cluster's own address belongs into GOT_RAY_ADDRESS"
            )
        return None if value is None else value.rstrip("/")

    @field_validator("foundation")
    @classmethod
    def _trained_or_folder(cls, value: str | None) -> str | None:
        if value is None or value == TRAIN:
            return value
        if (folder := local_path(value)) is None:
            raise ValueError(f"GOT_FOUNDATION={value} is neither {TRAIN} nor a folder of this machine")
        return str(folder)

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

    @model_validator(mode="after")
    def _one_start(self) -> Settings:
        others = {"GOT_WEIGHTS": self.weights, "GOT_SDXL and GOT_QWEN": self.sdxl}
        named = [name for name, value in others.items() if value is not None]
        if self.foundation is not None and named:
            raise ValueError(
                f"GOT_FOUNDATION={self.foundation} and {named[0]} both say what training starts from: unset "
                "one of them"
            )
        return self

    def foundation_folder(self, model: ModelConfig) -> FoundationFolder | None:
        """The folder of foundation weights that training of a model starts from; None: it starts from
        ``weights`` or ``published``, or they are trained anew."""
        if self.weights is not None or self.sdxl is not None:
            return None
        return chosen_folder(self.foundation, model, scenes=not self.photographs)

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
        return self.mlflow_uri or sqlite_url(self._database)

    @property
    def registry_place(self) -> str | Path:
        """The same, or the default database's file, whose URL takes a while to spell, for readers alone."""
        return self.mlflow_uri or self._database

    @property
    def _database(self) -> Path:
        return self.home / "mlflow" / "mlflow.db"

    @property
    def annotator_name(self) -> str | None:
        """The annotator to use; None means that annotation cannot run (own images and none configured)."""
        return self.annotator or (None if self.own_images else "scenes")

    @property
    def photographs(self) -> bool:
        """Whether the graph works on pictures that are no rendered scenes: own ones that the scene reader
        does not read, and of which no true scenes are known."""
        read = self.annotator_name not in (None, "scenes")
        return self.own_images and read and self.truth is None

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
