"""What a subcommand works on: the recipe, the settings and the storage.

Belongs here: reading them for a person at a terminal. Not here: their rules (`got_core.settings`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from got_assets.cli.errors import usage_errors

if TYPE_CHECKING:
    from got_assets.project import Project
    from got_core.model.pipeline import GoTPipeline
    from got_core.recipes import Recipe


def choose_recipe(name: str | None) -> Recipe:
    """The recipe of this name, or of the settings, with the mixtures of GOT_MIXTURE.

    Raises UsageError for an unknown name, which lists the names, and for a wrong file of mixtures;
    FileNotFoundError where there is no such file.
    """
    from got_core.recipes import get_recipe
    from got_core.settings import Settings
    from got_core.train.mixture_file import with_mixtures

    settings = Settings()
    with usage_errors():
        return with_mixtures(get_recipe(name or settings.recipe), settings.mixture)


def set_recipe(name: str | None) -> None:
    """Make it the recipe of this process and of those that it starts. Raises UsageError."""
    choose_recipe(name)
    if name is not None:
        os.environ["GOT_RECIPE"] = name


def open_project(recipe: str | None = None) -> Project:
    """Settings, recipe and storage. Raises UsageError for an unknown recipe; else as `load_project`.

    Libraries are quiet, and a person does not wait for minutes until MLflow's client gives up.
    """
    set_recipe(recipe)
    from got_assets.project import load_project
    from got_assets.quiet import quiet_libraries

    quiet_libraries()
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    return load_project()


@contextmanager
def opened_pipeline(model: str) -> Iterator[tuple[GoTPipeline, str]]:
    """The pipeline of a model by its name, and its full name. Raises as `opened_model`."""
    uri = open_project().settings.tracking_uri
    from got_core.inference.model import opened_model

    with opened_model(model, uri, progress=sys.stderr.isatty()) as opened:
        yield opened
