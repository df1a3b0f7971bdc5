"""Dagster's event log as plain records, in a few queries whatever the number of partitions.

Belongs here: reading latest events, evaluations of checks and data versions. Not here: what follows from them
(`needs`).

Events are read by their number and never change, so a process reads each once. What Dagster keeps private
(1.13.27) and is used here: the event log's storage of an instance, tags of provenance.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluation
from dagster._core.definitions.data_version import DATA_VERSION_TAG, DataProvenance
from dagster._core.event_api import EventLogRecord, PartitionKeyFilter
from dagster._core.events import DagsterEventType
from dagster._core.instance import RUNLESS_RUN_ID
from dagster._core.storage.asset_check_execution_record import (
    COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES,
    AssetCheckExecutionRecordStatus,
    AssetCheckPartitionInfo,
)

from got_assets.needs import INPUTS_TAG, NO_VERSION, TRAINED_ON_TAG, Input, Record

_MATERIALIZED, _OBSERVED = DagsterEventType.ASSET_MATERIALIZATION, DagsterEventType.ASSET_OBSERVATION
TO_RETRY = "urls_to_retry"
"""Figure of a shard of raw images: how many URLs failed for a reason that may pass."""
_FIGURES = ("seconds", "rows_in", "rows_out", "rows_rejected", "tokens_in", "tokens_out", "cost", TO_RETRY)
_AT_ONCE = 500
"""Events of a query: up to 60 KB each where they hold thumbnails."""

_FEW = 20
"""Partitions that a query names; for more, all are read."""


class EventLog:
    """What an instance knows of assets, as of each call."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self._instance = instance
        self._read: dict[int, Record] = {}
        self._evaluated: dict[tuple[dg.AssetCheckKey, str | None, int, int], str | None] = {}

    def partitions(
        self, asset: str, names: Collection[str] | None = None, *, observed: bool = False
    ) -> dict[str, Record]:
        """Latest record of each partition (of ``names``) that has one.

        Materializations, or with ``observed`` observations.
        """
        ids = self.newest(asset, names, observed=observed)
        wanted = ids if names is None else {name: ids[name] for name in names if name in ids}
        new = sorted(number for number in wanted.values() if number not in self._read)
        for start in range(0, len(new), _AT_ONCE):
            for found in self._fetch(asset, new[start : start + _AT_ONCE], observed):
                self._read[found.storage_id] = record_of(found)
        return {name: self._read[number] for name, number in wanted.items() if number in self._read}

    def newest(
        self, asset: str, names: Collection[str] | None = None, *, observed: bool = False
    ) -> Mapping[str, int]:
        """Number of the latest event of each partition."""
        few = set(names) if names is not None and len(names) <= _FEW else None
        return self._instance.event_log_storage.get_latest_storage_id_by_partition(
            dg.AssetKey(asset), _OBSERVED if observed else _MATERIALIZED, few
        )

    def whole(self, assets: Iterable[str]) -> dict[str, Record]:
        """Latest materialization of assets that have no partitions, as far as they have one."""
        keys = [dg.AssetKey(asset) for asset in assets]
        entries = [one.asset_entry for one in self._instance.get_asset_records(keys)] if keys else []
        latest = {one.asset_key.to_user_string(): one.last_materialization_record for one in entries}
        return {asset: record_of(found) for asset, found in latest.items() if found}

    def observed(self, asset: str) -> Record | None:
        """Latest observation of an asset that has no partitions."""
        found = self._instance.fetch_observations(dg.AssetKey(asset), limit=1).records
        return record_of(found[0]) if found else None

    def versions(
        self, asset: str, names: Sequence[str] | None, until: int | None = None, *, observed: bool = False
    ) -> dict[str, str]:
        """Data versions of partitions, by now or at an earlier event."""
        tags = self._instance.event_log_storage.get_latest_tags_by_partition(
            dg.AssetKey(asset),
            _OBSERVED if observed else _MATERIALIZED,
            [DATA_VERSION_TAG],
            asset_partitions=names,
            before_cursor=None if until is None else until + 1,
        )
        return {name: found.get(DATA_VERSION_TAG, "") for name, found in tags.items()}

    def checks(
        self,
        keys: Sequence[dg.AssetCheckKey],
        records: Mapping[tuple[str, str | None], Record],
        names: Collection[str] | None,
    ) -> dict[tuple[str, str | None], dict[str, str | None]]:
        """By asset and partition: what checks said of what there is (see ``Facts.checks``).

        ``names``: partitions; None: the assets have none.
        """
        few = list(names) if names is not None and len(names) <= _FEW else None
        infos = self._instance.event_log_storage.get_asset_check_partition_info(
            list(keys), partition_keys=few
        )
        found: dict[tuple[str, str | None], dict[str, str | None]] = {}
        for info in infos:
            place = (info.check_key.asset_key.to_user_string(), info.partition_key)
            asked = info.partition_key is None if names is None else info.partition_key in names
            if asked and place in records:
                found.setdefault(place, {})[info.check_key.name] = self._said(info, records[place])
        return found

    def _said(self, info: AssetCheckPartitionInfo, record: Record) -> str | None:
        """ "" if the check passed on the record, its words if it failed, None if it did not run on that."""
        current = info.latest_target_materialization_storage_id == record.number
        if info.latest_execution_status == AssetCheckExecutionRecordStatus.SUCCEEDED and current:
            return ""
        key = (info.check_key, info.partition_key, info.latest_check_event_storage_id, record.number)
        if key not in self._evaluated:
            self._evaluated[key] = self._evaluation(info, record)
        return self._evaluated[key]

    def _evaluation(self, info: AssetCheckPartitionInfo, record: Record) -> str | None:
        # Not the latest record: a run that dies early leaves a planned one above the last evaluation.
        history = self._instance.event_log_storage.get_asset_check_execution_history(
            info.check_key,
            limit=1,
            status=COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES,
            partition_filter=PartitionKeyFilter(key=info.partition_key),
        )
        evaluation = history[0].evaluation if history else None
        if evaluation is None:
            return None
        target = evaluation.target_materialization_data
        # What a person reports as made was made by no run that could have checked it.
        if record.by_hand or (target and target.storage_id == record.number):
            return _words(evaluation)
        return None

    def _fetch(self, asset: str, numbers: list[int], observed: bool) -> Sequence[EventLogRecord]:
        chosen = dg.AssetRecordsFilter(dg.AssetKey(asset), storage_ids=numbers)
        fetch = self._instance.fetch_observations if observed else self._instance.fetch_materializations
        return fetch(chosen, limit=len(numbers)).records


def record_of(found: EventLogRecord) -> Record:
    """The record of a materialization or observation."""
    event = found.asset_materialization or found.event_log_entry.asset_observation
    tags: Mapping[str, str] = (event.tags if event else None) or {}
    provenance = DataProvenance.from_tags(tags)
    metadata = event.metadata if event else {}
    return Record(
        number=found.storage_id,
        data_version=tags.get(DATA_VERSION_TAG),
        code_version=provenance.code_version if provenance else None,
        inputs=dict(_inputs(provenance)) if provenance else {},
        tags={name: tags[name] for name in (INPUTS_TAG, TRAINED_ON_TAG) if name in tags},
        by_hand=found.run_id == RUNLESS_RUN_ID,
        figures={name: metadata[name].value for name in _FIGURES if name in metadata},  # type: ignore[misc]
    )


def inputs_digest(instance: dg.DagsterInstance, inputs: Mapping[str, dg.PartitionsDefinition]) -> str:
    """Digest (16 hex) of the data versions of all existing partitions of the named partitioned assets."""
    log, lines = EventLog(instance), []
    for asset, partitions in sorted(inputs.items()):
        names = set(partitions.get_partition_keys(dynamic_partitions_store=instance))
        versions = {name: version for name, version in log.versions(asset, None).items() if name in names}
        lines += [f"{asset}/{name}={version}" for name, version in sorted(versions.items())]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def inputs_tag(instance: dg.DagsterInstance, inputs: Mapping[str, dg.PartitionsDefinition]) -> dict[str, str]:
    """The tag that an asset which reads all partitions of `inputs` puts on its materialization.

    Take it before reading: what changes meanwhile then counts as new.
    """
    return {INPUTS_TAG: inputs_digest(instance, inputs)}


def _inputs(provenance: DataProvenance) -> Iterator[tuple[str, Input]]:
    for key, version in provenance.input_data_versions.items():
        if provenance.has_input_asset(key):
            until = provenance.input_storage_ids[key]
            yield key.to_user_string(), Input(version=version.value or NO_VERSION, until=until)


def _words(evaluation: AssetCheckEvaluation) -> str:
    if evaluation.passed or evaluation.severity != dg.AssetCheckSeverity.ERROR:
        return ""
    return evaluation.description or "no reason given"
