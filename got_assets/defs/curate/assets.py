"""Which rows are good enough to train on. Selections are ids and reasons; the rows stay where they are."""

# No postponed annotations here: Dagster looks at the annotation objects themselves.

import time
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import dagster as dg
import polars as pl

from got_assets.defs.ingest.assets import edit_pairs, raw_images
from got_assets.defs.ingest.partitions import EDIT_SHARDS, IMAGE_SHARDS
from got_assets.io import ShardTables
from got_assets.project import PROJECT, Project, code_version
from got_assets.reporting import column_schema, markdown_table, reason_counts, table_result
from got_assets.staleness import inputs_tag
from got_core.curate import schemas
from got_core.curate.benchmarks import benchmark_digest
from got_core.curate.config import MANIFEST_RULES, CurateConfig
from got_core.curate.takedown_lists import list_digest
from got_core.filesystems import StoreUnavailableError
from got_core.recipes import digest

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


def _reviews_digest(project: Project) -> str:
    """Changes with the files of verdicts, which are named by their content."""
    from got_core.curate.review_schemas import FOLDER

    try:
        return digest(project.storage.list(f"{FOLDER}/"))
    except (OSError, StoreUnavailableError):  # the first step that needs the storage says so
        return "unreadable"


# A changed list outside the graph makes the assets that read it stale, as a changed recipe does.
REVIEWS = _reviews_digest(PROJECT)
TAKEDOWNS = list_digest(PROJECT.storage)
_BENCHMARK = benchmark_digest(PROJECT.recipe.curate.benchmark_hashes, _benchmark_options(PROJECT))


@dg.asset(
    partitions_def=IMAGE_SHARDS,
    group_name="curate",
    kinds={"polars"},
    owners=["team:data"],
    code_version=code_version(4, PROJECT.recipe.curate, _BENCHMARK, REVIEWS),
    metadata=column_schema(schemas.SELECTION),
)
def t2i_selection(
    context: dg.AssetExecutionContext,
    project: dg.ResourceParam[Project],
    t2i_chains: pl.DataFrame,
    raw_images: pl.DataFrame,
) -> dg.MaterializeResult[pl.DataFrame]:
    """Verdict on every text-to-image chain of a shard; a rejected one names the first rule against it."""
    from got_core.curate.review import load_verdicts, select_reviewed
    from got_core.curate.rules import select_t2i
    from got_core.curate.signals import measure_shard

    started, config = time.monotonic(), project.recipe.curate
    signals = measure_shard(project.storage, context.partition_key, raw_images, project.reader().open, config)
    frame = select_reviewed(
        select_t2i,
        t2i_chains,
        raw_images,
        config,
        verdicts=load_verdicts(project.storage),
        signals=signals,
        benchmark=benchmark_of(project),
    )
    return _selection_result(project, frame, t2i_chains, started)


@dg.asset(
    partitions_def=EDIT_SHARDS,
    group_name="curate",
    kinds={"polars"},
    owners=["team:data"],
    code_version=code_version(4, PROJECT.recipe.curate, _BENCHMARK, REVIEWS),
    metadata=column_schema(schemas.SELECTION),
)
def edit_selection(
    context: dg.AssetExecutionContext,
    project: dg.ResourceParam[Project],
    edit_chains: pl.DataFrame,
    edit_pairs: pl.DataFrame,
) -> dg.MaterializeResult[pl.DataFrame]:
    """Verdict on every edit chain of a shard; a rejected one names the first rule that rejected it."""
    from got_core.curate.review import load_verdicts, select_reviewed
    from got_core.curate.rules import select_edits
    from got_core.curate.signals import measure_shard

    started, config, shard = time.monotonic(), project.recipe.curate, context.partition_key
    signals = measure_shard(project.storage, shard, edit_pairs, project.edit_reader().open, config)
    frame = select_reviewed(
        select_edits,
        edit_chains,
        edit_pairs,
        config,
        verdicts=load_verdicts(project.storage),
        signals=signals,
        benchmark=benchmark_of(project),
    )
    return _selection_result(project, frame, edit_chains, started)


def _selection_result(
    project: Project, frame: pl.DataFrame, chains: pl.DataFrame, started: float
) -> dg.MaterializeResult[pl.DataFrame]:
    """A selection with the rows that each asked rule rejected, and a few of them to look at."""
    from got_core.curate.rules import active_rules, rule_counts, rule_examples, rules_left_out

    kind: Literal["t2i", "edit"] = "edit" if "pair_id" in chains.columns else "t2i"
    counts = rule_counts(frame)
    asked = [(name, counts.get(name, 0)) for name in active_rules(project.recipe.curate, kind)]
    silent = [
        (name, f"not asked: {why}") for name, why in rules_left_out(project.recipe.curate, kind).items()
    ]
    examples = rule_examples(frame, chains)
    shown = examples.with_columns(pl.col("text", "detail").str.replace_all(r"\s+", " "))
    return table_result(
        frame,
        rows_in=chains.height,
        started=started,
        rejected=_REJECTED,
        rules=markdown_table(["rule", "rows rejected"], [*asked, *silent]),
        examples=markdown_table(["rule", "id", "reason", "text"], shown.iter_rows()),
    )


@dg.asset(
    deps=[t2i_selection, t2i_chains, raw_images, edit_selection, edit_chains, edit_pairs],
    group_name="curate",
    kinds={"polars"},
    owners=["team:data"],
    code_version=code_version(4, PROJECT.recipe.curate, PROJECT.recipe.ingest, TAKEDOWNS),
    metadata=column_schema(schemas.MANIFEST),
)
def training_manifest(
    context: dg.AssetExecutionContext, project: dg.ResourceParam[Project]
) -> dg.MaterializeResult[pl.DataFrame]:
    """The explicit list of samples that training reads: the accepted rows of the accepted shards.

    A shard that is missing a step or has too many quarantined rows is left out by name and stops nothing
    else. Samples are sorted by id and appear once, however many shards hold the same image. Whatever is on
    the takedown list is removed from all tables first; the ids of every manifest are archived.
    """
    from got_core.curate.manifest import archive_manifest, assemble
    from got_core.curate.takedown import removal_of, take_down

    started, storage, config = time.monotonic(), project.storage, project.recipe.curate
    inputs = dict.fromkeys(IMAGE_INPUTS, IMAGE_SHARDS) | dict.fromkeys(EDIT_INPUTS, EDIT_SHARDS)
    tags = inputs_tag(context.instance, inputs)
    take_down(storage, config, project.readers())
    images, image_notes = _accepted(context, project, IMAGE_SHARDS, IMAGE_INPUTS)
    edits, edit_notes = _accepted(context, project, EDIT_SHARDS, EDIT_INPUTS)
    frame, left_out = assemble(images, edits, config, removal_of(storage))
    storage.write_table(LEFT_OUT_TABLE, left_out)
    archive_manifest(storage, frame)
    notes = {**image_notes, **edit_notes}
    selected = images.selected + edits.selected
    return table_result(
        frame,
        rows_in=selected,
        started=started,
        rejected=pl.lit(False),
        rows_rejected=left_out.height,
        rows_folded=selected - frame.height - left_out.height,
        shards_used=len(images) + len(edits),
        shards_left_out=len(notes),
        left_out=markdown_table(["shard", "why"], notes.items()),
        rules=markdown_table(["rule", "rows rejected"], _asked_across_shards(config, left_out)),
        examples=markdown_table(
            ["rule", "id", "reason"], left_out.select("rule", "item_id", "detail").head(12).iter_rows()
        ),
        rejected_rows=storage.url_of(f"{LEFT_OUT_TABLE}.parquet"),
        kinds=reason_counts(frame, "kind"),
        tags=tags,
    )


def _asked_across_shards(config: CurateConfig, left_out: pl.DataFrame) -> list[tuple[str, int]]:
    """Rows that each rule across shards rejected, and takedowns."""
    from got_core.curate.rules import rule_counts

    counts = rule_counts(left_out)
    asked = [name for name in MANIFEST_RULES if config.asks(name)]
    return [(name, counts.get(name, 0)) for name in (*asked, "taken_down")]


Tables = tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]


class AcceptedShards(Mapping[str, Tables]):
    """The tables of accepted shards, read again when asked for: one shard is in memory at a time."""

    def __init__(self, stored: list[ShardTables], verdicts: pl.DataFrame) -> None:
        self._stored, self._verdicts = stored, verdicts
        self._shards: list[str] = []
        self.selected = 0
        """Accepted rows of all of them."""

    def add(self, shard: str, rows: int) -> None:
        """Count a shard as accepted."""
        self._shards.append(shard)
        self.selected += rows

    def __getitem__(self, shard: str) -> Tables:
        from got_core.curate.review import corrected

        selection, chains, source = (tables[shard] for tables in self._stored)
        return selection, corrected(chains, self._verdicts), source

    def __iter__(self) -> Iterator[str]:
        return iter(self._shards)

    def __len__(self) -> int:
        return len(self._shards)


def _accepted(
    context: dg.AssetExecutionContext,
    project: Project,
    partitions: dg.DynamicPartitionsDefinition,
    assets: tuple[str, str, str],
) -> tuple[AcceptedShards, dict[str, str]]:
    """The accepted shards, and why each other one is left out. `assets` ends with the ingested."""
    from got_core.curate.review import load_verdicts
    from got_core.curate.verdict import shard_verdict

    shards = sorted(context.instance.get_dynamic_partitions(str(partitions.name)))
    stored = [ShardTables(project.storage, asset, shards) for asset in assets]
    accepted = AcceptedShards(stored, load_verdicts(project.storage))
    left_out: dict[str, str] = {}
    for shard in shards:
        missing = [asset for asset, tables in zip(assets, stored, strict=True) if shard not in tables]
        if missing:
            left_out[shard] = f"no {', no '.join(missing)}"
            continue
        selection, chains, source = (tables[shard] for tables in stored)
        passed, _, text = shard_verdict({assets[2]: source}, project.recipe.ingest.max_error_share)
        if passed:
            passed, _, text = shard_verdict({assets[1]: chains}, project.recipe.curate.max_error_share)
        if passed and not _fit_together(selection, chains, source):
            passed, text = (
                False,
                "its tables do not fit together: a step above was made again and stopped there",
            )
        if passed:
            accepted.add(shard, int(selection["accepted"].sum()))
        else:
            left_out[shard] = text
    return accepted, left_out


def _fit_together(selection: pl.DataFrame, chains: pl.DataFrame, source: pl.DataFrame) -> bool:
    """Whether every accepted chain, and the image or pair that it is about, is still in the tables."""
    chosen = selection.filter(pl.col("accepted"))
    good = source.filter(pl.col("error").is_null())
    item = "pair_id" if "pair_id" in source.columns else "image_id"
    return bool(
        chosen["chain_id"].is_in(chains["chain_id"].implode()).all()
        and chosen["item_id"].is_in(good[item].implode()).all()
    )
