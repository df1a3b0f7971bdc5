"""Blocking checks of annotation, and the scene reader's accuracy against the renderer's truth."""

# No postponed annotations here: Dagster looks at the annotation objects themselves.

import dagster as dg
import polars as pl

from got_assets.checks import partitioned_check, shard_check
from got_assets.defs.annotate import assets, imported
from got_assets.defs.ingest.partitions import EDIT_SHARDS, IMAGE_SHARDS
from got_assets.names import value_name
from got_assets.project import PROJECT, Project
from got_assets.reporting import readable_figures

_LIMIT = PROJECT.recipe.curate.max_error_share

_CHAINS = imported if PROJECT.settings.chains_imported else assets
t2i_chains_check = shard_check(_CHAINS.t2i_chains, IMAGE_SHARDS, _LIMIT)
edit_chains_check = shard_check(_CHAINS.edit_chains, EDIT_SHARDS, _LIMIT)
if not PROJECT.settings.chains_imported:
    captions_check = shard_check(assets.captions, IMAGE_SHARDS, _LIMIT)
    entities_check = shard_check(assets.entities, IMAGE_SHARDS, _LIMIT)
    boxes_check = shard_check(assets.boxes, IMAGE_SHARDS, _LIMIT)
    edit_descriptions_check = shard_check(assets.edit_descriptions, EDIT_SHARDS, _LIMIT)
    edit_boxes_check = shard_check(assets.edit_boxes, EDIT_SHARDS, _LIMIT)

READER_BARS = {"shape": 0.99, "color": 0.99, "count": 0.99, "box_iou": 0.9}
"""Least share of the shard's objects read right, and least mean overlap of found with true boxes."""


def _truth(project: Project) -> pl.DataFrame:
    """What the renderer drew."""
    from got_core.filesystems import open_filesystem

    url = str(project.settings.truth_url)
    fs, path = open_filesystem(url, **project.settings.fs_options(url))
    with fs.open(path, "rb") as file:
        return pl.read_parquet(file)


if PROJECT.settings.truth_url and not PROJECT.settings.chains_imported:

    @partitioned_check(assets.boxes, IMAGE_SHARDS, name="reads_scenes_right", blocking=False)
    def reader_check(
        context: dg.AssetCheckExecutionContext, project: dg.ResourceParam[Project]
    ) -> dg.AssetCheckResult:
        """The scene reader against the renderer's truth, on this shard's pictures.

        At least 99 % of objects with shape, colour and count read right, and a mean box overlap of 0.9.
        Annotation never sees the truth.
        """
        from got_core.scenes.corpus import reader_accuracy
        from got_core.scenes.readings import READINGS

        raw = project.storage.read_table(value_name("raw_images", context.partition_key))
        good = raw.filter(pl.col("error").is_null()).select("image_id", "path")
        truth = _truth(project).filter(pl.col("kind") == "image")
        known = truth.filter(pl.col("image_id").is_in(good["image_id"].implode()))
        if known.is_empty():
            return dg.AssetCheckResult(passed=True, description="none of these pictures has a known truth")
        reader = project.reader()
        pictures = ((name, reader.open(path)) for name, path in good.iter_rows())
        figures = reader_accuracy(known, pictures, lambda picture: READINGS.of(picture).objects)
        low = [name for name, bar in READER_BARS.items() if figures[name] < bar]
        text = f"below the bar: {', '.join(low)}" if low else "all above the bar"
        return dg.AssetCheckResult(passed=not low, metadata=readable_figures(figures), description=text)
