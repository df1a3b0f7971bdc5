"""The guidance grid of the candidate: made on demand, by nothing that makes or retrains a model."""

# No postponed annotations here: Dagster looks at the annotation objects themselves.

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from got_assets.clustered import clustered
from got_assets.project import PROJECT, Project, code_version
from got_assets.reporting import document_hash, document_result, log_progress, markdown_table, stored_image
from got_assets.scored import benchmark_cluster
from got_core.evaluate.config import PUBLISHED_ASSETS
from got_core.evaluate.guidance_grid.config import GuidanceGridConfig
from got_core.evaluate.judged_names import is_own

if TYPE_CHECKING:
    from got_core.evaluate.drawers.drawer import Drawer

Document = dict[str, Any]
_RECIPE = PROJECT.recipe
_DEFAULT = GuidanceGridConfig()
FOLDER = "guidance"
"""Of the grids of all models, in the storage."""


class GuidanceConfig(dg.Config):
    """Scales, prompts and noise of the grid; without a benchmark the recipe's first one."""

    benchmark: str | None = None
    text_scales: list[float] = Field(default=list(_DEFAULT.text_scales))
    spatial_scales: list[float] = Field(default=list(_DEFAULT.spatial_scales))
    reference_scale: float | None = None
    prompts: int = _DEFAULT.prompts
    seed: int = _DEFAULT.seed
    num_inference_steps: int | None = None

    def grid(self) -> GuidanceGridConfig:
        """The same for the library. Raises ValueError, naming what cannot be used."""
        benchmarks = [self.benchmark] if self.benchmark else _RECIPE.evaluate.benchmarks
        if not benchmarks:
            raise ValueError(
                f"recipe {_RECIPE.name!r} names no benchmark whose prompts could be drawn: give `benchmark` "
                "in the run's configuration, such as geneval"
            )
        return GuidanceGridConfig(
            benchmark=benchmarks[0],
            text_scales=tuple(self.text_scales),
            spatial_scales=tuple(self.spatial_scales),
            reference_scale=self.reference_scale,
            prompts=self.prompts,
            seed=self.seed,
            num_inference_steps=self.num_inference_steps,
            batch_size=_RECIPE.evaluate.batch_size,
        )


@dg.asset(
    ins={"candidate": dg.AssetIn(_RECIPE.candidate)},
    group_name="evaluate",
    kinds={"pytorch"},
    owners=["team:model"],
    code_version=code_version(1, _RECIPE.evaluate.measuring(), _RECIPE.world),
)
@clustered
def guidance_grid(
    project: dg.ResourceParam[Project], config: GuidanceConfig, candidate: Document
) -> dg.MaterializeResult[Document]:
    """The same prompts at every pair of a text and a spatial guidance scale, as in the paper's figure: a
    sheet for each prompt, and a heat map of the scores.

    Each prompt has one plan and one noise, so only guidance differs. Prompts are those of any benchmark, also
    of edits, where the reference scale stays the same; the benchmark judges where it can. Configuration of
    the run: `benchmark`, `text_scales`, `spatial_scales`, `reference_scale`, `prompts`, `seed`,
    `num_inference_steps`. Pictures that are there are not drawn again. No part of `got run`.
    """
    from got_core.evaluate.guidance_grid.grid import draw_guidance_grid
    from got_core.evaluate.guidance_grid.prompts import grid_prompts
    from got_core.evaluate.suite import sampler_arguments

    started, storage, recipe = time.monotonic(), project.storage, project.recipe
    chosen, weights = config.grid(), candidate["weights_hash"]
    prompts = grid_prompts(chosen, recipe.world, recipe.evaluate, project.settings.benchmarks)
    with _drawer(project, candidate["folder"], chosen.benchmark) as drawer:
        found = draw_guidance_grid(
            drawer,
            prompts,
            chosen,
            storage,
            f"{FOLDER}/{weights[:12]}",
            weights_hash=weights,
            sampler=sampler_arguments(recipe.evaluate),
            progress=lambda done, total: log_progress(f"{done} of {total} pictures"),
        )
    shown: dict[str, Any] = {}
    if found.heat_map:
        shown["heat_map"] = stored_image(storage, found.heat_map)
    if notes := found.document["notes"]:
        shown["notes"] = "; ".join(notes)
    return document_result(
        found.document,
        version=document_hash(found.document),
        started=started,
        benchmark=found.document["benchmark"],
        pictures=found.pictures.height,
        scores=_score_table(found.document["cells"], chosen),
        sheets=markdown_table(
            ["prompt", "sheet"],
            zip(found.document["prompts"], map(storage.url_of, found.sheets), strict=True),
        ),
        first_sheet=stored_image(storage, found.sheets[0]),
        **shown,
    )


@contextmanager
def _drawer(project: Project, folder: str, benchmark: str) -> Iterator["Drawer"]:
    """Workers on Ray for photographs, as for the published benchmarks; scenes are drawn here."""
    from got_core.evaluate.benchmarks import open_pipeline
    from got_core.evaluate.drawers.local import as_drawer
    from got_core.evaluate.published.cluster import drawing_on

    if benchmark not in PUBLISHED_ASSETS.values() and not is_own(benchmark):
        yield as_drawer(open_pipeline(project.storage.download(folder)))
        return
    cluster = benchmark_cluster(project)
    with cluster.session(), drawing_on(cluster, folder, project.storage) as drawer:
        yield drawer


def _score_table(cells: list[Document], config: GuidanceGridConfig) -> dg.MarkdownMetadataValue:
    """Scores in the places that they have on the sheets, with `n / N`."""
    spelled = {(one["text_scale"], one["spatial_scale"]): _score(one) for one in cells}
    rows = [
        (f"spatial {spatial:g}", *(spelled[text, spatial] for text in config.text_scales))
        for spatial in config.spatial_scales
    ]
    return markdown_table(["", *(f"text {text:g}" for text in config.text_scales)], rows)


def _score(cell: Document) -> str:
    if cell["score"] is None:
        return f"- (0 / {cell['of']})"
    return f"{cell['score']:.3f} ({cell['n']} / {cell['of']})"
