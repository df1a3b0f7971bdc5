"""Recipes: functions that return the whole configuration of the graph, one file each.

``embedded`` runs on a laptop and is the default; ``embedded-long`` learns the same from more data; ``tiny``
walks the same graph in seconds for tests; ``paper`` is the published size, for a GPU cluster, and
``rehearsal`` the same with small networks; ``finetune-own`` takes a model of that size on to own photographs,
on one GPU. A recipe of your own is another file here with a line in RECIPES, or any code that returns a
``Recipe``.
"""

from __future__ import annotations

from got_core.digests import digest
from got_core.recipes.embedded import embedded
from got_core.recipes.embedded_long import embedded_long
from got_core.recipes.finetune_own import finetune_own, finetune_own_512
from got_core.recipes.paper import paper
from got_core.recipes.recipe import Recipe
from got_core.recipes.rehearsal import rehearsal
from got_core.recipes.tiny import tiny

__all__ = [
    "RECIPES",
    "Recipe",
    "digest",
    "embedded",
    "embedded_long",
    "finetune_own",
    "finetune_own_512",
    "get_recipe",
    "paper",
    "rehearsal",
    "tiny",
]

RECIPES = {
    "embedded": embedded,
    "embedded-long": embedded_long,
    "finetune-own": finetune_own,
    "finetune-own-512": finetune_own_512,
    "paper": paper,
    "rehearsal": rehearsal,
    "tiny": tiny,
}


def get_recipe(name: str) -> Recipe:
    """The recipe of this name. Raises ValueError, which lists the names, for an unknown one."""
    if name not in RECIPES:
        raise ValueError(f"unknown recipe {name!r}; set GOT_RECIPE to one of: {', '.join(sorted(RECIPES))}")
    return RECIPES[name]()
