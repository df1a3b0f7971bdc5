"""What every asset needs to know: where things are, which recipe runs, and the storage.

Belongs here: reading settings and recipe once, when definitions load, and making code versions from them.
Does not belong here: anything that computes. Importing this loads no model library, and reads nothing but the
environment (with `.env`) and the file of mixtures that GOT_MIXTURE names.
"""

from __future__ import annotations

import hashlib
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from got_core.digests import digest, results
from got_core.recipes import Recipe, get_recipe
from got_core.settings import Settings
from got_core.storage import Storage
from got_core.train.mixture_file import with_mixtures

if TYPE_CHECKING:
    from got_core.annotate.annotator import Annotator
    from got_core.corpus.ingest import ImageReader

ROOT = Path(__file__).resolve().parent.parent
INSTANCE = Path(__file__).resolve().parent / "instance"
"""Dagster's files for one machine: dagster.yaml and workspace.yaml."""


@dataclass(frozen=True)
class Project:
    """Settings, recipe and storage of this process; the resource `project` of every asset."""

    settings: Settings
    recipe: Recipe
    storage: Storage

    def reader(self) -> ImageReader:
        """Opens raw images by their path below the raw folder."""
        from got_core.corpus.ingest import ImageReader

        url, storage = self.settings.raw_url, self.storage
        return ImageReader(
            url,
            self.recipe.ingest,
            self.settings.fs_options(url),
            store_url=storage.url,
            store_options=storage.fs_options,
        )

    def edit_reader(self) -> ImageReader:
        """Opens source and target images by their path beside the pair table.

        Raises ValueError if there is no pair table.
        """
        from got_core.corpus.ingest import ImageReader, edits_root

        url = edits_root(self.edits_url)
        return ImageReader(url, self.recipe.ingest, self.settings.fs_options(url))

    def readers(self) -> dict[str, ImageReader]:
        """What opens raw pictures by kind (t2i, edit), as far as their inputs are there."""
        made = {}
        for kind, make in (("t2i", self.reader), ("edit", self.edit_reader)):
            with suppress(FileNotFoundError, ValueError):
                made[kind] = make()
        return made

    @property
    def edits_url(self) -> str:
        """The pair table. Raises ValueError if none is configured."""
        if self.settings.edits_url is None:
            raise ValueError("there is no table of edit pairs: set GOT_EDITS to a CSV or parquet file")
        return self.settings.edits_url

    def check_foundation(self) -> None:
        """Raise FileNotFoundError or ValueError where the folder of foundation weights that training would
        start from is not as it was written, or for another model."""
        if (folder := self.settings.foundation_folder(self.recipe.model)) is not None:
            folder.check()
            folder.check_model(self.recipe.model, self.recipe.name)

    def annotator(self) -> Annotator:
        """The configured annotator. Raises ValueError if none can read these images."""
        from got_core.annotate.scene_annotator import make_annotator

        name = self.settings.annotator_name
        if name is None:
            url = self.settings.raw_url
            raise ValueError(
                f"no annotator that can read the images of {url} is configured: set GOT_ANNOTATOR"
            )
        return make_annotator(name)

    @property
    def annotator_revision(self) -> str:
        """What makes annotations differ besides the images: the annotator's own revision, or `none`."""
        from got_core.annotate.factory import annotator_revision

        name = self.settings.annotator_name
        if self.settings.chains_imported:
            return "imported"
        return annotator_revision(name, self.settings.annotator_config) if name else "none"


def load_project() -> Project:
    """Read settings and recipe. Own images, and recipes but the default one, get a home of their own unless
    GOT_HOME names one.

    A home holds the shards and the history of one raw folder; mixing two would train on both.
    """
    settings = Settings()
    if "home" not in settings.model_fields_set:
        name = "" if settings.recipe == Settings.model_fields["recipe"].default else settings.recipe
        if settings.own_images:
            name = "own-" + hashlib.sha256(settings.raw_url.encode()).hexdigest()[:8]
        settings = Settings(home=settings.home / name) if name else settings
    recipe = with_mixtures(get_recipe(settings.recipe), settings.mixture)
    return Project(settings, recipe, Storage(settings.storage_url, **settings.storage_options))


def code_version(number: int, *parts: Any) -> str:
    """Version of an asset's code: a number raised by hand, and a digest of each recipe part that it uses.

    A changed recipe thereby makes exactly those assets stale that depend on the changed part. Fields that
    change no result (`got_core.digests.execution`) do not count.
    """
    digests = (part if isinstance(part, str) else digest(results(part)) for part in parts)
    return "-".join([str(number), *digests])


def git_commit() -> str:
    """The commit of the working copy, with `-dirty` if it has changes; `unknown` outside one."""
    try:
        done = subprocess.run(
            ["git", "-C", str(ROOT), "describe", "--always", "--abbrev=40", "--dirty", "--match", "-"],
            capture_output=True, text=True, timeout=20, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip() or "unknown"


PROJECT = load_project()
