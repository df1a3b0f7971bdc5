"""Whether models of this project can be scored as the recipe says: before anything is annotated or trained.

Belongs here: the project's own checks. Not here: those of a recipe alone (`Recipe`), and scoring.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from got_assets.project import Project
from got_core.evaluate.config import SCENE_ASSETS
from got_core.recipes.recipe import OTHERS

if TYPE_CHECKING:
    from got_core.evaluate.published.cluster import Cluster


def check_benchmarks(project: Project) -> None:
    """Raise ValueError where photographs would be scored on rendered scenes, and MissingDownloadError, which
    names each file, where downloads of a published benchmark are not there."""
    _check_scenes(project)
    if names := project.recipe.evaluate.published:
        from got_core.evaluate.published.needed import check_needed

        judge = project.settings.judge_server.config()
        check_needed(names, project.settings.benchmarks, _who(project), judge is not None)


def try_benchmarks(project: Project) -> None:
    """`check_benchmarks`, and open what judges: raises where data cannot be read, weights do not fit, or a
    detector finds nothing."""
    _check_scenes(project)
    if names := project.recipe.evaluate.published:
        from got_core.evaluate.published.needed import try_all

        judge = project.settings.judge_server.config()
        try_all(names, project.settings.benchmarks, judge, _who(project))


def _check_scenes(project: Project) -> None:
    if project.settings.photographs and (names := project.recipe.evaluate.on_scenes):
        raise ValueError(
            f"{_photographs(project)}, and recipe {project.recipe.name!r} scores its models by "
            f"{', '.join(names)}, rendered scenes, which say nothing about a model of photographs: set "
            "GOT_RECIPE to a recipe of photographs, such as finetune-own, or in a recipe of your own "
            f"{OTHERS}"
        )


def _who(project: Project) -> str:
    return f"the model of recipe {project.recipe.name!r}"


def check_ablation(project: Project) -> None:
    """Raise ValueError where models of photographs would be compared on scenes."""
    project.recipe.check_ablation()
    if project.settings.photographs:
        raise ValueError(
            f"{_photographs(project)}, and the ablation scores its runs by {SCENE_ASSETS['geneval']}, "
            "rendered scenes, which say nothing about models of photographs: run it without GOT_RAW"
        )


def benchmark_cluster(project: Project) -> Cluster:
    """Where this project draws and judges published benchmarks: on the workers of its trainings."""
    from got_core.evaluate.published.cluster import Cluster

    settings = project.settings
    return Cluster(
        workers=settings.workers,
        device=settings.device,
        address=settings.ray_address,
        judge=settings.judge_server.config(),
    )


def _photographs(project: Project) -> str:
    name = project.settings.annotator_name
    return f"GOT_RAW names pictures that are no rendered scenes (GOT_ANNOTATOR={name})"
