"""What has to be made again: Dagster's own staleness (code versions, data versions) plus lost values.

Belongs here: asking, for an asset or one of its partitions, whether it is up to date, blocked or to be made,
and which steps of a list can go into one run. Does not belong here: running anything.

The resolver is private to Dagster (1.13.27); this module is its only use.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluation
from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetGraph
from dagster._core.definitions.data_version import (
    DATA_VERSION_TAG,
    CachingStaleStatusResolver,
    StaleStatus,
)
from dagster._core.event_api import PartitionKeyFilter
from dagster._core.events import DagsterEventType
from dagster._core.instance import RUNLESS_RUN_ID
from dagster._core.loader import LoadingContext
from dagster._core.storage.asset_check_execution_record import (
    COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES,
    AssetCheckPartitionInfo,
)

from got_assets.io import value_exists
from got_core.storage import Storage

INPUTS_TAG = "got/inputs"
"""Tag on a materialization that read all partitions of its inputs: digest of their data versions."""


TRAINED_ON_TAG = "got/trained_on"
"""Tag on a materialization of a model: digest of the data versions of what it was really made from. A
training that has begun goes on with the data of its beginning, while Dagster records what there is by now."""

NEWER_DATA = "was trained on the data that its training began with; there is newer data"


class _Loading(LoadingContext):
    """The resolver's cache of records, for one round."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self._instance, self._loaders = instance, {}  # type: ignore[var-annotated]

    @property
    def instance(self) -> dg.DagsterInstance:
        return self._instance

    @property
    def loaders(self) -> dict:
        return self._loaders


@dataclass(frozen=True)
class State:
    """Whether an asset (partition) needs to be made, and why; `blocked` names the parent that stops it."""

    key: str
    needed: bool
    why: str = ""
    blocked: str | None = None


class Staleness:
    """Answers for one moment; make a new one after anything was materialized.

    ``just_made``: assets for which newer data waits until they are asked for the next time (NEWER_DATA).
    """

    def __init__(
        self,
        instance: dg.DagsterInstance,
        graph: BaseAssetGraph,
        storage: Storage,
        just_made: Collection[str] = (),
    ) -> None:
        self._instance, self._graph, self._storage = instance, graph, storage
        self._just_made = just_made
        self._resolver = CachingStaleStatusResolver(instance, graph, _Loading(instance))
        self._checked: dict[tuple[str, str | None], dict[str, AssetCheckEvaluation | None]] = {}

    def need(self, asset: str, partition: str | None = None) -> str:
        """Why the asset must be made: `missing`, `value lost` or Dagster's cause; "" if it need not."""
        key = dg.AssetKey(asset)
        status = self._resolver.get_status(key, partition)
        if status == StaleStatus.MISSING:
            return "missing"
        if not value_exists(self._storage, asset, partition):
            return "value lost"
        if status == StaleStatus.STALE:
            causes = self._resolver.get_stale_causes(key, partition)
            return "; ".join(dict.fromkeys(_cause(cause) for cause in causes))
        if why := self._need_by_inputs(key):
            return why
        if asset not in self._just_made and self._newer_data(key):
            return NEWER_DATA
        return "its check did not run" if self.unchecked(asset, partition) else ""

    def _need_by_inputs(self, key: dg.AssetKey) -> str:
        """Dagster leaves dependencies on a hundred or more partitions out; the recorded digest does not."""
        node = self._graph.get(key)
        parents = [self._graph.get(parent) for parent in node.parent_keys]
        inputs = {p.key.to_user_string(): p.partitions_def for p in parents if p.partitions_def}
        if node.is_partitioned or not inputs:
            return ""
        made_from = self._tags(key).get(INPUTS_TAG)
        if made_from is None or made_from == inputs_digest(self._instance, inputs):
            return ""
        return "has a new dependency data version"

    def _newer_data(self, key: dg.AssetKey) -> bool:
        """Whether a model was made from something else than there is by now."""
        made_from = self._tags(key).get(TRAINED_ON_TAG)
        if made_from is None:
            return False
        parents = sorted(self._graph.get(key).parent_keys)
        versions = {one.to_user_string(): self._tags(one).get(DATA_VERSION_TAG) for one in parents}
        known = {name: version for name, version in versions.items() if version is not None}
        return len(known) == len(versions) and trained_on_tag(known)[TRAINED_ON_TAG] != made_from

    def _tags(self, key: dg.AssetKey) -> Mapping[str, str]:
        """Those of the latest materialization."""
        event = self._instance.get_latest_materialization_event(key)
        materialization = event.asset_materialization if event else None
        return (materialization.tags or {}) if materialization else {}

    def failed_checks(self, asset: str, partition: str | None = None) -> dict[str, str]:
        """Blocking checks that failed when they last ran on the asset, with their descriptions.

        A failure that is only a warning blocks nothing, in Dagster neither.
        """
        found = self._evaluations(asset, partition)
        return {
            name: evaluation.description or "no reason given"
            for name, evaluation in found.items()
            if evaluation and not evaluation.passed and evaluation.severity == dg.AssetCheckSeverity.ERROR
        }

    def unchecked(self, asset: str, partition: str | None = None) -> bool:
        """Whether a run made the asset and ended before a blocking check had run on it."""
        return None in self._evaluations(asset, partition).values()

    def _evaluations(self, asset: str, partition: str | None) -> dict[str, AssetCheckEvaluation | None]:
        """Blocking checks that were ever planned: their evaluation of what there is now, None without."""
        place = (asset, partition)
        if place not in self._checked:
            keys = self._graph.get_check_keys_for_assets({dg.AssetKey(asset)})
            found = self._instance.event_log_storage.get_asset_check_partition_info(
                [key for key in keys if self._graph.get(key).blocking],
                partition_keys=[partition] if partition else None,
            )
            here = [info for info in found if info.partition_key == partition]
            made = [info for info in here if info.latest_materialization_storage_id is not None]
            self._checked[place] = {info.check_key.name: self._evaluation(info) for info in made}
        return self._checked[place]

    def _evaluation(self, info: AssetCheckPartitionInfo) -> AssetCheckEvaluation | None:
        # Not the latest record: a run that dies early leaves a planned one above the last evaluation.
        history = self._instance.event_log_storage.get_asset_check_execution_history(
            info.check_key,
            limit=1,
            status=COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES,
            partition_filter=PartitionKeyFilter(key=info.partition_key),
        )
        evaluation = history[0].evaluation if history else None
        target = evaluation.target_materialization_data if evaluation else None
        if target and target.storage_id == info.latest_materialization_storage_id:
            return evaluation
        # What a person reports as made was made by no run that could have checked it.
        return evaluation if self._reported_by_hand(info) else None

    def _reported_by_hand(self, info: AssetCheckPartitionInfo) -> bool:
        partition = info.partition_key
        chosen = dg.AssetRecordsFilter(info.check_key.asset_key, [partition] if partition else None)
        records = self._instance.fetch_materializations(chosen, limit=1).records
        return bool(records) and records[0].run_id == RUNLESS_RUN_ID

    def states(self, assets: Sequence[str], partition: str | None = None) -> list[State]:
        """The state of each asset of a topologically ordered list, for one partition or unpartitioned ones.

        An asset is blocked if a parent of the same partition fails a blocking check and is not itself to be
        made again, or is blocked, or is missing and not in the list.
        """
        states: dict[str, State] = {}
        for asset in assets:
            why = self.need(asset, partition)
            blocked = next(
                filter(None, (self._stops(p, partition, states) for p in self._parents(asset))), None
            )
            states[asset] = State(asset, bool(why), why, blocked)
        return list(states.values())

    def _parents(self, asset: str) -> list[str]:
        """Parents of the same partition; the partitioned parents of an unpartitioned asset stop nothing."""
        node = self._graph.get(dg.AssetKey(asset))
        parents = (self._graph.get(key) for key in sorted(node.parent_keys))
        return [p.key.to_user_string() for p in parents if node.is_partitioned or not p.is_partitioned]

    def _stops(self, parent: str, partition: str | None, states: dict[str, State]) -> str | None:
        state = states.get(parent)
        if state and state.blocked:
            return state.blocked
        if state and state.needed:
            return None
        if self.failed_checks(parent, partition) or (not state and self.unchecked(parent, partition)):
            return parent
        return parent if not state and self.need(parent, partition) == "missing" else None


def next_batch(graph: BaseAssetGraph, states: Iterable[State]) -> list[str]:
    """Which needed assets can be made in one run, in order, without making any of them twice.

    An asset that is up to date now may turn stale when an asset above it gives another value. What lies below
    such an asset waits for the next round; all others go together.
    """
    batch: list[str] = []
    unsure: set[str] = set()
    for state in states:
        parents = {key.to_user_string() for key in graph.get(dg.AssetKey(state.key)).parent_keys}
        if state.blocked or parents & unsure or (not state.needed and parents & set(batch)):
            unsure.add(state.key)
        elif state.needed:
            batch.append(state.key)
    return batch


def inputs_digest(instance: dg.DagsterInstance, inputs: Mapping[str, dg.PartitionsDefinition]) -> str:
    """Digest (16 hex) of the data versions of all existing partitions of the named partitioned assets."""
    lines = []
    for asset, partitions in sorted(inputs.items()):
        names = set(partitions.get_partition_keys(dynamic_partitions_store=instance))
        tags = instance.event_log_storage.get_latest_tags_by_partition(
            dg.AssetKey(asset), DagsterEventType.ASSET_MATERIALIZATION, [DATA_VERSION_TAG]
        )
        versions = {name: found.get(DATA_VERSION_TAG, "") for name, found in tags.items() if name in names}
        lines += [f"{asset}/{name}={version}" for name, version in sorted(versions.items())]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def inputs_tag(instance: dg.DagsterInstance, inputs: Mapping[str, dg.PartitionsDefinition]) -> dict[str, str]:
    """The tag that an asset which reads all partitions of `inputs` puts on its materialization.

    Take it before reading: what changes meanwhile then counts as new.
    """
    return {INPUTS_TAG: inputs_digest(instance, inputs)}


def trained_on_tag(versions: Mapping[str, str]) -> dict[str, str]:
    """The tag that a model puts on its materialization: what it was made from, as data versions by asset."""
    text = "\n".join(f"{asset}={version}" for asset, version in sorted(versions.items()))
    return {TRAINED_ON_TAG: hashlib.sha256(text.encode()).hexdigest()[:16]}


def _cause(cause: object) -> str:
    dependency = getattr(cause, "dependency", None)
    reason = getattr(cause, "reason", "")
    return f"{reason}: {dependency.asset_key.to_user_string()}" if dependency else reason
