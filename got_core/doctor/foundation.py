"""What the recipe's training starts from.

Belongs here: the finding. Not here: which weights a setting means (`got_core.settings`), or what is wrong
with a folder (`got_core.model.formats.foundation_folder`).
"""

from __future__ import annotations

from pathlib import Path

from got_core.doctor.finding import Finding, fail, ok
from got_core.model.formats import foundation_folder
from got_core.model.formats.foundation_folder import TRAIN, FoundationFolderError
from got_core.recipes import get_recipe
from got_core.redacted import redacted_url
from got_core.settings import Settings

NAME = "foundation"


def check_foundation(settings: Settings) -> Finding:
    """A GoT model, published weights, a folder of foundation weights, or none; folders are looked at."""
    recipe = get_recipe(settings.recipe)
    if settings.weights is not None:
        return ok(NAME, f"none: training starts from the GoT model {redacted_url(settings.weights)}")
    if settings.published is not None:
        return _published(*settings.published)
    folder = settings.foundation_folder(recipe.model)
    if folder is None:
        why = f"GOT_FOUNDATION={TRAIN}" if settings.foundation else f"none comes for recipe {recipe.name}"
        return ok(NAME, f"trained anew: {why}")
    try:
        folder.check()
        folder.check_model(recipe.model, recipe.name)
    except (FileNotFoundError, FoundationFolderError) as error:
        return fail(NAME, str(error), f"set GOT_FOUNDATION to a whole folder of its sizes, or to {TRAIN}")
    own = folder.path == foundation_folder.PACKAGED
    whose = "those that come with the package" if own else f"the folder {folder.path}"
    return ok(NAME, f"{whose}: {folder.title()}")


def _published(sdxl: str, qwen: str) -> Finding:
    named = {"GOT_SDXL": sdxl, "GOT_QWEN": qwen}
    missing = [f"{name}={folder}" for name, folder in named.items() if not Path(folder).is_dir()]
    if missing:
        return fail(
            NAME, f"no folder is at {' and '.join(missing)}", "download it there, or correct the name"
        )
    return ok(NAME, f"published weights: {sdxl} and {qwen}")
