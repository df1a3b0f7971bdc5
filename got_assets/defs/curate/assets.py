"""Which rows are good enough to train on. Selections are ids and reasons; the rows stay where they are."""

# No postponed annotations here: Dagster looks at the annotation objects themselves.

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl

from got_assets.defs.curate.applying import apply_takedowns
from got_assets.defs.ingest.assets import edit_pairs, raw_images
from got_assets.defs.ingest.partitions import EDIT_SHARDS, IMAGE_SHARDS
from got_assets.defs.lists.sources import names_for
from got_assets.event_log import inputs_tag
from got_assets.io import ShardTables
from got_assets.project import PROJECT, Project, code_version
from got_assets.reporting import Metadata, column_schema, markdown_table, reason_counts, table_result
from got_assets.retries import retried
from got_core.curate import schemas
from got_core.curate.config import CurateConfig
from got_core.recipes import digest

if TYPE_CHECKING:
    from got_core.corpus.reader import ImageReader
    from got_core.curate.manifest import AcceptedShards
    from got_core.curate.rules import Kind

if PROJECT.settings.chains_imported:
    from got_assets.defs.annotate.imported import edit_chains, t2i_chains
else:
    from got_assets.defs.annotate.assets import edit_chains, t2i_chains

IMAGE_INPUTS = ("t2i_selection", "t2i_chains", "raw_images")
EDIT_INPUTS = ("edit_selection", "edit_chains", "edit_pairs")
_REJECTED = ~pl.col("accepted")
LEFT_OUT_TABLE = "left_out"
"""Table in the storage of accepted rows that the manifest leaves out, with the rule."""


def _benchmark_options(project: Project) -> dict[str, Any]:
    url = project.recipe.curate.benchmark_hashes
    return project.settings.fs_options(url) if url else {}


def benchmark_of(project: Project) -> pl.DataFrame | None:
    """The table of benchmark images, if the recipe names one. Raises as `read_benchmark`."""
    from got_core.curate.benchmarks import read_benchmark

    url = project.recipe.curate.benchmark_hashes
    return read_benchmark(url, _benchmark_options(project)) if url else None


_MIXTURES = digest([stage.config.mixture for stage in PROJECT.recipe.stages])


@dg.asset(
    partitions_def=IMAGE_SHARDS,
    group_name="curate",
    kinds={"polars"},
    owners=["team:data"],
    deps=names_for("image_verdicts", "image_contamination"),
    code_version=code_version(6, PROJECT.recipe.curate),
    metadata=column_schema(schemas.SELECTION),
)
@retried
def t2i_selection(
    context: dg.AssetExecutionContext,
    project: dg.ResourceParam[Project],
    t2i_chains: pl.DataFrame,
    raw_images: pl.DataFrame,
) -> dg.MaterializeResult[pl.DataFrame]:
    """Verdict on every text-to-image chain of a shard; a rejected one names the first rule against it."""
    from got_core.curate.rules import select_t2i

    shard, reader = context.partition_key, project.reader()
    return _selected(project, shard, "t2i", select_t2i, t2i_chains, raw_images, reader)


@dg.asset(
    partitions_def=EDIT_SHARDS,
    group_name="curate",
    kinds={"polars"},
    owners=["team:data"],
    deps=names_for("edit_verdicts", "edit_contamination"),
    code_version=code_version(6, PROJECT.recipe.curate),
    metadata=column_schema(schemas.SELECTION),
)
@retried
def edit_selection(
    context: dg.AssetExecutionContext,
    project: dg.ResourceParam[Project],
    edit_chains: pl.DataFrame,
    edit_pairs: pl.DataFrame,
) -> dg.MaterializeResult[pl.DataFrame]:
    """Verdict on every edit chain of a shard; a rejected one names the first rule that rejected it."""
    from got_core.curate.rules import select_edits

    shard, reader = context.partition_key, project.edit_reader()
    return _selected(project, shard, "edit", select_edits, edit_chains, edit_pairs, reader)


def _selected(
    project: Project,
    shard: str,
    kind: "Kind",
    select: Callable[..., pl.DataFrame],
    chains: pl.DataFrame,
    ingested: pl.DataFrame,
    reader: "ImageReader",
) -> dg.MaterializeResult[pl.DataFrame]:
    """The shard's selection after the reviewers, from its chains and the measures of its pictures."""
    from got_core.curate.review import load_verdicts, select_reviewed
    from got_core.curate.signals import measure_shard

    started, config = time.monotonic(), project.recipe.curate
    threads = project.settings.io_threads
    signals = measure_shard(project.storage, shard, ingested, reader, config, io_threads=threads)
    frame = select_reviewed(
        select,
        chains,
        ingested,
        config,
        verdicts=load_verdicts(project.storage),
        signals=signals,
        benchmark=benchmark_of(project),
    )
    return _selection_result(config, frame, chains, kind, started)


def _selection_result(
    config: CurateConfig,
    frame: pl.DataFrame,
    chains: pl.DataFrame,
    kind: "Kind",
    started: float,
) -> dg.MaterializeResult[pl.DataFrame]:
    """A selection with the rows that each rule rejected, and a few of them as examples."""
    from got_core.curate.rules import active_rules, rule_counts, rule_examples, rules_left_out

    counts = rule_counts(frame)
    applied = [(name, counts.get(name, 0)) for name in active_rules(config, kind)]
    left_out = [(name, f"not applied: {why}") for name, why in rules_left_out(config, kind).items()]
    examples = rule_examples(frame, chains)
    shown = examples.with_columns(pl.col("text", "detail").str.replace_all(r"\s+", " "))
    return table_result(
        frame,
        rows_in=chains.height,
        started=started,
        rejected=_REJECTED,
        rules=markdown_table(["rule", "rows rejected"], [*applied, *left_out]),
        examples=markdown_table(["rule", "id", "reason", "text"], shown.iter_rows()),
    )


@dg.asset(
    deps=[
        *(t2i_selection, t2i_chains, raw_images, edit_selection, edit_chains, edit_pairs),
        *names_for("matched_entries"),
    ],
    group_name="curate",
    kinds={"polars"},
    owners=["team:data"],
    code_version=code_version(5, PROJECT.recipe.curate, PROJECT.recipe.ingest, _MIXTURES),
    metadata=column_schema(schemas.MANIFEST),
)
@retried
def training_manifest(
    context: dg.AssetExecutionContext, project: dg.ResourceParam[Project]
) -> dg.MaterializeResult[pl.DataFrame]:
    """The explicit list of samples that training reads: the accepted rows of the accepted shards.

    A shard that is missing a step or has too many quarantined rows is left out by name and stops nothing
    else. Samples are sorted by id and appear once, however many shards hold the same image. Whatever is on
    the takedown list is removed from all tables first; the ids of every manifest are archived. The mixtures
    of all stages have to find their rows in it.
    """
    from got_core.curate.manifest import archive_manifest, assemble
    from got_core.curate.takedown import removal_of

    started, storage, config = time.monotonic(), project.storage, project.recipe.curate
    inputs = dict.fromkeys(IMAGE_INPUTS, IMAGE_SHARDS) | dict.fromkeys(EDIT_INPUTS, EDIT_SHARDS)
    apply_takedowns(project, context.instance, f"Dagster run {context.run.run_id[:8]}")
    tags = inputs_tag(context.instance, inputs)  # what was rewritten has new versions by now
    images = _accepted_shards(context, project, IMAGE_SHARDS, IMAGE_INPUTS)
    edits = _accepted_shards(context, project, EDIT_SHARDS, EDIT_INPUTS)
    frame, left_out = assemble(images, edits, config, removal_of(storage))
    mixtures = _mixtures(project, frame)
    storage.write_table(LEFT_OUT_TABLE, left_out)
    archive_manifest(storage, frame)
    rows_in = images.selected + edits.selected
    details = _manifest_metadata(project, frame, left_out, rows_in)
    return table_result(
        frame,
        rows_in=rows_in,
        started=started,
        rejected=pl.lit(False),
        **details,
        **_shard_metadata(images, edits),
        mixtures=mixtures,
        tags=tags,
    )


def _mixtures(project: Project, frame: pl.DataFrame) -> dg.MarkdownMetadataValue:
    """What each stage draws from the manifest; nothing from an empty one, which training refuses.

    Raises one ValueError where mixtures do not go with it.
    """
    from got_core.train.mixture import HEADER, counted, groups_of, mixture_table, resolve_stages, sources_of

    if frame.is_empty():
        return markdown_table(HEADER, [])
    sources = counted([sources_of(frame, groups_of(project.recipe))])
    return markdown_table(HEADER, mixture_table(resolve_stages(project.recipe, sources)))


def _accepted_shards(
    context: dg.AssetExecutionContext,
    project: Project,
    partitions: dg.DynamicPartitionsDefinition,
    assets: tuple[str, str, str],
) -> "AcceptedShards":
    """The accepted shards of selection, chains and ingested table (`assets`, in this order)."""
    from got_core.curate.manifest import accepted_shards
    from got_core.curate.review import load_verdicts

    shards = sorted(context.instance.get_dynamic_partitions(str(partitions.name)))
    return accepted_shards(
        shards,
        {asset: ShardTables(project.storage, asset, shards) for asset in assets},
        load_verdicts(project.storage),
        max_ingest_errors=project.recipe.ingest.max_error_share,
        max_annotation_errors=project.recipe.curate.max_error_share,
    )


def _shard_metadata(images: "AcceptedShards", edits: "AcceptedShards") -> Metadata:
    """How many shards are in the manifest, and why each other one is not."""
    left_out = {**images.left_out, **edits.left_out}
    return {
        "shards_used": len(images) + len(edits),
        "shards_left_out": len(left_out),
        "left_out": markdown_table(["shard", "why"], left_out.items()),
    }


def _manifest_metadata(
    project: Project, frame: pl.DataFrame, left_out: pl.DataFrame, rows_in: int
) -> Metadata:
    """What the rules across shards left out of the manifest, and the kinds of its samples."""
    from got_core.curate.manifest import manifest_rule_counts

    counts = manifest_rule_counts(project.recipe.curate, left_out)
    examples = left_out.select("rule", "item_id", "detail").head(12)
    return {
        "rows_rejected": left_out.height,
        "rows_folded": rows_in - frame.height - left_out.height,
        "rules": markdown_table(["rule", "rows rejected"], counts.items()),
        "examples": markdown_table(["rule", "id", "reason"], examples.iter_rows()),
        "rejected_rows": project.storage.url_of(f"{LEFT_OUT_TABLE}.parquet"),
        "kinds": reason_counts(frame, "kind"),
    }
