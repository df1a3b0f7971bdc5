"""The recipe's rule of promotion asked for a project, by the graph, its job and the command line alike.

Belongs here: what the rule needs of a project. Not here: the rule (`got_core.registry.promote`), moving
aliases by hand (`got_core.registry.by_hand`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from got_assets.project import Project
from got_assets.scored import benchmark_cluster, check_benchmarks

if TYPE_CHECKING:
    from got_core.registry.promote import PromotionDecision


def promote_challenger(project: Project, name: str, report: Callable[[str], None]) -> PromotionDecision:
    """Move `@champion` to `@challenger` if the recipe's rule allows it.

    Raises as `promote`, and for downloads of benchmarks that are missing.
    """
    from got_core.registry.promote import promote
    from got_core.registry.rescore import Scorer

    recipe = project.recipe
    check_benchmarks(project)
    scorer = Scorer(
        world=recipe.world,
        config=recipe.evaluate,
        storage=project.storage,
        downloads=project.settings.benchmarks,
        cluster=benchmark_cluster(project),
        report=report,
    )
    return promote(name, tracking_uri=project.settings.tracking_uri, config=recipe.promotion, scorer=scorer)
