"""The facts from which `needs` answers: read from Dagster's instance, the storage and the graph.

Belongs here: which assets, partitions and values are looked at, and answers for one moment. Not here: what
follows from facts (`needs`), queries to the event log (`event_log`), running anything.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import lru_cache

import dagster as dg
from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetGraph

from got_assets import needs
from got_assets.event_log import EventLog, inputs_digest
from got_assets.io import value_exists
from got_assets.names import value_name
from got_assets.needs import INPUTS_TAG, Facts, Node, Place, Record, State
from got_core.storage import Storage

_FEW = 8
"""Partitions whose values are looked up one by one; for more, the asset's folder is listed once."""


class Staleness:
    """Answers for one moment; make a new one after anything was materialized.

    ``just_made``: assets for which newer data waits until they are asked for the next time (NEWER_DATA).
    ``log``: the event log as read so far.
    """

    def __init__(
        self,
        instance: dg.DagsterInstance,
        graph: BaseAssetGraph,
        storage: Storage,
        just_made: Collection[str] = (),
        log: EventLog | None = None,
    ) -> None:
        self._instance, self._graph, self._storage = instance, graph, storage
        self._just_made = just_made
        self._log = log or EventLog(instance)
        self._facts: dict[str | None, tuple[frozenset[str], Facts]] = {}

    def need(self, asset: str, partition: str | None = None) -> str:
        """Why the asset must be made (`needs.need`); "" if it need not."""
        return needs.need(self._known([asset], partition), asset, partition, self._just_made)

    def failed_checks(self, asset: str, partition: str | None = None) -> dict[str, str]:
        """Blocking checks that failed when they last ran on the asset, with their descriptions."""
        return needs.failed_checks(self._known([asset], partition), asset, partition)

    def unchecked(self, asset: str, partition: str | None = None) -> bool:
        """Whether a run made the asset and ended before a blocking check had run on it."""
        return needs.unchecked(self._known([asset], partition), asset, partition)

    def states(self, assets: Sequence[str], partition: str | None = None) -> list[State]:
        """The state of each asset of a topologically ordered list (`needs.needed`)."""
        return needs.needed(self._known(assets, partition), assets, partition, self._just_made)

    def facts(self, assets: Collection[str], partitions: Collection[str] | None) -> Facts:
        """What is known of assets and their parents: of these partitions, or (None) of assets without any.

        The number of queries depends on the assets, and grows with partitions by one for hundreds of them.
        """
        nodes = graph_nodes(self._graph)
        asked = list(dict.fromkeys([*assets, *(one for asset in assets for one in nodes[asset].parents)]))
        records = dict(self._records(nodes, asked, partitions))
        whole = [asset for asset in assets if not nodes[asset].partitioned]
        return Facts(
            graph=nodes,
            records=records,
            stored=frozenset(self._stored(nodes, records, partitions)),
            checks=self._checks(nodes, asked, records, partitions),
            inputs=self._inputs(nodes, whole, records),
            newest=self._newest(nodes, whole, records),
            earlier=dict(self._earlier(nodes, records)),
        )

    def _known(self, assets: Sequence[str], partition: str | None) -> Facts:
        known, facts = self._facts.get(partition, (frozenset[str](), None))
        if facts is None or not known.issuperset(assets):
            known = known | set(assets)
            facts = self.facts(sorted(known), None if partition is None else [partition])
            self._facts[partition] = (known, facts)
        return facts

    def _records(
        self, nodes: Mapping[str, Node], asked: list[str], partitions: Collection[str] | None
    ) -> Iterator[tuple[Place, Record]]:
        whole = [asset for asset in asked if not nodes[asset].partitioned and not nodes[asset].external]
        yield from (((asset, None), record) for asset, record in self._log.whole(whole).items())
        for asset in asked:
            node = nodes[asset]
            if node.partitioned and partitions is not None:
                found = self._log.partitions(asset, partitions, observed=node.external)
                yield from (((asset, name), record) for name, record in found.items())
            elif node.external and not node.partitioned and (observed := self._log.observed(asset)):
                yield (asset, None), observed

    def _stored(
        self, nodes: Mapping[str, Node], records: Mapping[Place, Record], partitions: Collection[str] | None
    ) -> Iterator[Place]:
        many = partitions is not None and len(partitions) > _FEW
        listed = {asset for asset, partition in records if many and partition and not nodes[asset].external}
        names = {name for asset in sorted(listed) for name in self._storage.list(f"{asset}/")}
        for asset, partition in records:
            name = value_name(asset, partition)
            if asset in listed:  # a shard's document refers to no folder that would have to be there, too
                there = f"{name}.parquet" in names or f"{name}.json" in names
            else:
                there = not nodes[asset].external and value_exists(self._storage, asset, partition)
            if there:
                yield asset, partition

    def _checks(
        self,
        nodes: Mapping[str, Node],
        asked: list[str],
        records: Mapping[Place, Record],
        partitions: Collection[str] | None,
    ) -> dict[Place, dict[str, str | None]]:
        found: dict[Place, dict[str, str | None]] = {}
        for partitioned, names in ((False, None), (True, partitions)):
            assets = [asset for asset in asked if nodes[asset].partitioned is partitioned]
            keys = self._blocking(assets) if names is not None or not partitioned else []
            found |= self._log.checks(keys, records, names) if keys else {}
        return found

    def _blocking(self, assets: list[str]) -> list[dg.AssetCheckKey]:
        keys = self._graph.get_check_keys_for_assets({dg.AssetKey(asset) for asset in assets})
        return sorted(key for key in keys if self._graph.get(key).blocking)

    def _inputs(
        self, nodes: Mapping[str, Node], whole: list[str], records: Mapping[Place, Record]
    ) -> dict[str, str]:
        """Dagster leaves dependencies on a hundred or more partitions out; the recorded digest does not."""
        tagged = [one for one in whole if (one, None) in records and INPUTS_TAG in records[one, None].tags]
        return {asset: inputs_digest(self._instance, self._partitioned(nodes, asset)) for asset in tagged}

    def _partitioned(self, nodes: Mapping[str, Node], asset: str) -> dict[str, dg.PartitionsDefinition]:
        """Parents that have partitions, with them."""
        found = {one: self._graph.get(dg.AssetKey(one)).partitions_def for one in nodes[asset].parents}
        return {parent: partitions for parent, partitions in found.items() if partitions is not None}

    def _newest(
        self, nodes: Mapping[str, Node], whole: list[str], records: Mapping[Place, Record]
    ) -> dict[str, int]:
        untagged = [
            one for one in whole if (one, None) in records and INPUTS_TAG not in records[one, None].tags
        ]
        parents = {parent for asset in untagged for parent in nodes[asset].parents}
        numbers = {
            parent: self._log.newest(parent, observed=nodes[parent].external).values()
            for parent in sorted(parents)
            if nodes[parent].partitioned
        }
        return {parent: max(found) for parent, found in numbers.items() if found}

    def _earlier(
        self, nodes: Mapping[str, Node], records: Mapping[Place, Record]
    ) -> Iterator[tuple[tuple[Place, int], str | None]]:
        """Versions of observed partitions when something was made from them, where newer ones are there."""
        asked: dict[tuple[str, int], list[str]] = {}
        for (_, partition), record in records.items():
            for parent, made_from in record.inputs.items():
                node, now = nodes.get(parent), records.get((parent, partition))
                if not (node and node.external and node.partitioned and now and partition):
                    continue
                if made_from.until is not None and made_from.until < now.number:
                    asked.setdefault((parent, made_from.until), []).append(partition)
        for (parent, until), names in asked.items():
            found = self._log.versions(parent, names, until, observed=True)
            yield from ((((parent, name), until), found.get(name)) for name in names)


@lru_cache(maxsize=4)
def graph_nodes(graph: BaseAssetGraph) -> Mapping[str, Node]:
    """All assets of a graph by name."""
    return {
        node.key.to_user_string(): Node(
            parents=tuple(sorted(key.to_user_string() for key in node.parent_keys)),
            partitioned=node.is_partitioned,
            external=node.is_external,
            code_version=node.code_version,
        )
        for node in graph.asset_nodes
    }
