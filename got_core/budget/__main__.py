"""``python -m got_core.budget [RECIPE]``: prints a recipe's training plan. Default: ``GOT_RECIPE``."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict, fields

from got_core.budget.config import Accelerator
from got_core.budget.estimate import estimate
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
        gpu = {name: getattr(options, name) for name in GPU_OPTIONS}
        plan = estimate(options.recipe or Settings().recipe, **gpu)
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    from got_core.budget.page import json_text, markdown

    print(json_text(plan) if options.json else markdown(plan))
    return 0


if __name__ == "__main__":
    sys.exit(main())
