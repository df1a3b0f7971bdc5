"""``python -m got_core.budget [RECIPE]``: prints a recipe's training plan. Default: ``GOT_RECIPE``."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, fields, replace

from got_core.budget.config import Accelerator, BudgetConfig
from got_core.recipes import get_recipe
from got_core.settings import Settings

GPU_OPTIONS = [field.name for field in fields(Accelerator)]


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Recipe, and every assumption about the GPU as an option."""
    parser = argparse.ArgumentParser(prog="python -m got_core.budget", description=__doc__)
    parser.add_argument("recipe", nargs="?", default=None)
    parser.add_argument("--json", action="store_true", help="everything as JSON instead of a page")
    for name, default in asdict(Accelerator()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default, metavar="X")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Print the plan; returns 0, or 2 for an unknown recipe or an assumption that cannot be."""
    options = parse_arguments(arguments)
    try:
        recipe = get_recipe(options.recipe or Settings().recipe)
        gpu = replace(Accelerator(), **{name: getattr(options, name) for name in GPU_OPTIONS})
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    from got_core.budget.plan import make_plan, markdown

    plan = make_plan(recipe, BudgetConfig(gpu=gpu))
    print(json.dumps(plan.to_dict(), indent=1) if options.json else markdown(plan))
    return 0


if __name__ == "__main__":
    sys.exit(main())
