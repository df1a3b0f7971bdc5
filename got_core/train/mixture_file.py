"""A file that replaces the mixtures of a recipe's stages (``GOT_MIXTURE``).

Belongs here: reading it, and a recipe with it. Not here: what a mixture draws from data (``mixture``).
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from got_core.recipes import Recipe
from got_core.train.config import check_mixture


def with_mixtures(recipe: Recipe, path: Path | None) -> Recipe:
    """The recipe with the mixtures of a TOML file; as it is without a file.

    The file has a table of shares for each stage whose mixture it replaces::

        [pretrain]
        "t2i/lahr" = 0.438
        "t2i/journeydb" = 0.476
        "single-turn" = 0.086

    Raises FileNotFoundError where there is no such file, and ValueError, which names file and stage, where it
    is no TOML, names no stage of the recipe or no group, or its shares do not sum to 1.
    """
    if path is None:
        return recipe
    tables = _read(path)
    known = [stage.name for stage in recipe.stages]
    if unknown := [name for name in tables if name not in known]:
        raise ValueError(
            f"GOT_MIXTURE ({path}) has a table {unknown[0]!r}, but recipe {recipe.name!r} has no such stage; "
            f"its stages are {', '.join(known)}"
        )
    for name, table in tables.items():
        recipe = recipe.with_stage(name, mixture=_mixture(table, f"GOT_MIXTURE ({path}), stage {name}"))
    return recipe


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_bytes().decode())
    except FileNotFoundError:
        raise FileNotFoundError(
            f"GOT_MIXTURE names {path}, which does not exist; write the file, or unset it"
        ) from None
    except IsADirectoryError:
        raise ValueError(f"GOT_MIXTURE names {path}, a folder; it has to be a TOML file") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(
            f"GOT_MIXTURE ({path}) is no TOML: {error}; it needs a table for each stage, such as [pretrain], "
            'with lines like "t2i/lahr" = 0.438'
        ) from None


def _mixture(table: Any, where: str) -> dict[str, float]:
    if not isinstance(table, dict):
        raise ValueError(f"{where}: a table of shares is needed, found {table!r}")
    for name, share in table.items():
        if isinstance(share, bool) or not isinstance(share, int | float):
            raise ValueError(f"{where}: the share of {name!r} is a number, found {share!r}")
    try:
        check_mixture(table)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    return {name: float(share) for name, share in table.items()}
