"""Where things are: the ``GOT_*`` environment variables (and ``.env``) with their defaults resolved.

Belongs here: places and addresses. Does not belong here: how anything is computed (that is a recipe).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import AliasChoices, Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from got_core.storage import local_path


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
    """Folder or fsspec prefix of your own images. Not set: the rendered scenes."""

    edits: str | None = None
    """Table (CSV or parquet) of your own edit pairs, columns source, target, instruction. Not set with
    GOT_RAW set: no edit pairs."""

    storage: str | None = None
    """fsspec URL of tables and models. Not set: a folder below GOT_HOME."""

    truth: str | None = None
    """Parquet table of the scenes' truth, only to measure the annotator. Not set with GOT_RAW set: none."""

    recipe: str = "embedded"
    """Name of the recipe."""

    annotator: Literal["scenes"] | None = None
    """What annotates pictures. Not set: the scene reader for rendered scenes, nothing for your own images."""

    mlflow_uri: str | None = None
    """MLflow tracking URI. Not set: SQLite below GOT_HOME."""

    ray_address: str | None = Field(
        default=None, validation_alias=AliasChoices("GOT_RAY_ADDRESS", "RAY_ADDRESS", "ray_address")
    )
    """Ray cluster (also plain RAY_ADDRESS). Not set: a local Ray, started and stopped by the graph."""

    s3_endpoint: str | None = None
    """Endpoint of an S3 server other than AWS, such as http://minio:9000."""

    @field_validator("home")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return Path(local_path(value) or value)

    @field_validator("raw", "edits", "truth")
    @classmethod
    def _absolute_or_url(cls, value: str | None) -> str | None:
        return None if value is None else str(local_path(value) or value.rstrip("/"))

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
        return self.mlflow_uri or f"sqlite:///{self.home / 'mlflow' / 'mlflow.db'}"

    @property
    def annotator_name(self) -> str | None:
        """The annotator to use; None means that annotation cannot run (own images and none configured)."""
        return self.annotator or (None if self.own_images else "scenes")

    def fs_options(self, url: str) -> dict[str, Any]:
        """fsspec options for a URL: the S3 endpoint for ``s3://``, nothing for anything else."""
        return {"endpoint_url": self.s3_endpoint} if self.s3_endpoint and url.startswith("s3://") else {}
