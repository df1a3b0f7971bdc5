"""Lists that people keep outside of the graph, as observable sources, and their sensor.

Belongs here: which sources there are. Not here: how their versions come about (`observing`).
"""

# No postponed annotations here: Dagster looks at the annotation objects themselves.

import warnings
from collections.abc import Iterator

import dagster as dg

from got_assets.defs.lists.observing import SHARDS, Lists, Source, observations
from got_assets.project import PROJECT, Project
from got_core.corpus.item_index import Kind
from got_core.curate.takedown_lists import list_digest
from got_core.digests import digest

EVERY = 300
_WORDS: dict[Kind, str] = {"images": "image", "edits": "edit"}


def _matched(lists: Lists) -> str:
    from got_core.curate.shard_lists import whole_version

    return whole_version(lists.takedowns, lists.verdicts)


def _review_files(lists: Lists) -> str:
    from got_core.curate.review_schemas import FOLDER

    return digest(lists.project.storage.list(f"{FOLDER}/"))


def _shard_sources(kind: Kind) -> Iterator[Source]:
    """The sources that touch single shards of a kind."""
    word = _WORDS[kind]
    yield Source(
        name=f"{word}_takedowns", kind=kind, read=lambda lists: lists.takedowns,
        about="Entries of the takedown list (`takedown/list.csv`, and verdicts on copies) that name "
        "something in the shard.",
    )  # fmt: skip
    yield Source(
        name=f"{word}_verdicts", kind=kind, read=lambda lists: lists.verdicts,
        about="Verdicts of reviewers on chains of the shard, recorded with `got data review`.",
    )  # fmt: skip
    if PROJECT.recipe.curate.uses("contaminated"):
        yield Source(
            name=f"{word}_contamination", kind=kind, read=lambda lists: lists.contamination(kind),
            about="Entries of the table of benchmark pictures (`benchmark_hashes`) that a picture of the "
            "shard nearly equals.",
        )  # fmt: skip
    if PROJECT.settings.chains_imported:
        yield Source(
            name=f"imported_{word}_chains", kind=kind, read=lambda lists: lists.imports(kind),
            about="Chains of imported data sets (`got data import`) for what the shard holds.",
        )  # fmt: skip


SOURCES = [
    Source(
        name="takedown_list", read=lambda lists: list_digest(lists.project.storage),
        about="The takedown list and the verdicts on copies as files, whatever they match.",
    ),
    Source(
        name="review_files", read=_review_files,
        about="The files of reviewers' verdicts, whatever chains they are about.",
    ),
    Source(
        name="matched_entries", read=_matched,
        about="Takedowns and verdicts that touch any shard: what they say for the manifest.",
    ),
    *_shard_sources("images"),
    *_shard_sources("edits"),
]  # fmt: skip


def names_for(*kinds: str) -> list[str]:
    """Names of those of some sources that are in this graph, as dependencies of an asset."""
    there = {source.name for source in SOURCES}
    return [name for name in kinds if name in there]


def _asset(source: Source) -> dg.AssetsDefinition:
    spec = dg.AssetSpec(
        source.name,
        description=source.about,
        group_name="curate",
        kinds={"file"},
        owners=["team:data"],
        partitions_def=SHARDS[source.kind] if source.kind else None,
    )

    @dg.multi_observable_source_asset(name=f"observe_{source.name}", specs=[spec])
    def observe(
        context: dg.AssetExecutionContext, project: dg.ResourceParam[Project]
    ) -> Iterator[dg.ObserveResult]:
        versions = source.versions(Lists(project, context.instance))
        version = versions[context.partition_key if source.kind else None]
        yield dg.ObserveResult(asset_key=source.name, data_version=dg.DataVersion(version))

    return observe


with warnings.catch_warnings():
    # Dagster's mark on observation steps; only of observable assets does it look observations up.
    warnings.simplefilter("ignore", dg.BetaWarning)
    ASSETS = [_asset(source) for source in SOURCES]


def observe_lists(project: Project, instance: dg.DagsterInstance) -> int:
    """Record the versions of lists that have changed; how many. Raises as `observations`."""
    count = 0
    for event in observations(SOURCES, project, instance):
        instance.report_runless_asset_event(event)
        count += 1
    return count


@dg.sensor(minimum_interval_seconds=EVERY)
def watch_lists(
    context: dg.SensorEvaluationContext, project: dg.ResourceParam[Project]
) -> dg.SensorResult | dg.SkipReason:
    """Looks at takedowns, verdicts, benchmarks and imported chains; records new versions, which make
    stale the shards that they touch. Off until switched on."""
    found = list(observations(SOURCES, project, context.instance))
    return dg.SensorResult(asset_events=found) if found else dg.SkipReason("all lists are as they were")
