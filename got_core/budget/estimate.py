"""The training plan of a recipe by its name, as a command asks for it.

Belongs here: names and options. Not here: the plan (``plan``) and how it reads (``page``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from got_core.budget.config import Accelerator, BudgetConfig
from got_core.recipes import get_recipe

if TYPE_CHECKING:
    from got_core.budget.plan import TrainingPlan


def estimate(recipe_name: str, **gpu: Any) -> TrainingPlan:
    """The plan of the recipe of this name on a GPU, given by fields of ``Accelerator``.

    Raises ValueError for an unknown recipe and for a GPU that cannot be, before anything is computed.
    """
    recipe, config = get_recipe(recipe_name), BudgetConfig(gpu=Accelerator(**gpu))
    from got_core.budget.plan import make_plan  # torch, transformers and diffusers take their seconds

    return make_plan(recipe, config)
