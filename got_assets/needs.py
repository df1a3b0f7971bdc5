"""What is needed next, from plain facts: one answer for `make run` and for Dagster's daemon.

Belongs here: when an asset (of a shard) is missing, out of date, unchecked or stopped, and which of a list
can be made in one run. Not here: where facts come from (`staleness`), and running anything (`runner`,
sensors).

No Dagster here: names of assets and partitions are strings.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from got_core.curate.shard_lists import NOTHING

INPUTS_TAG = "got/inputs"
"""Tag on a materialization that read all partitions of its inputs: digest of their data versions."""

TRAINED_ON_TAG = "got/trained_on"
"""Tag on a materialization of a model: digest of the data versions of what it was really made from. A
training that has begun goes on with the data of its beginning, while Dagster records what there is by now."""

NEEDS_TAG = "got/needs"
"""Tag of a run of a shard: digest of what it is to make, and from what."""

NEWER_DATA = "was trained on the data that its training began with; there is newer data"
UNCHECKED = "its check did not run"
NOT_MADE, NO_VERSION = "NULL", "INITIAL"
"""Data versions of an asset that was never made, and of one that has none (Dagster's own words)."""

Place = tuple[str, str | None]
"""An asset, and its partition where it has any."""


@dataclass(frozen=True, kw_only=True)
class Node:
    """An asset as the graph declares it."""

    parents: tuple[str, ...] = ()
    partitioned: bool = False
    external: bool = False
    """Made outside of the graph and observed: it is never missing."""

    code_version: str | None = None


@dataclass(frozen=True, kw_only=True)
class Input:
    """What a materialization was made from, of one parent."""

    version: str
    """Its data version: of a partition of it the SHA-256 of that, of all partitions that of all together."""

    until: int | None
    """Number of the newest event of the parent at that time; None where there was none."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """The latest materialization of an asset (partition), or the latest observation of an external one."""

    number: int
    """Its place in the order of all events."""

    data_version: str | None = None
    code_version: str | None = None
    """None where a person reported it without saying what it was made with."""

    inputs: Mapping[str, Input] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    """INPUTS_TAG and TRAINED_ON_TAG, where it has them."""

    by_hand: bool = False
    """Whether a person reported it, so that no run could have checked it."""

    figures: Mapping[str, float] = field(default_factory=dict)
    """Numbers of its metadata that are summed over shards (`seconds`, `rows_in`, ...)."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known at one moment, of the assets in question and their parents."""

    graph: Mapping[str, Node]
    records: Mapping[Place, Record] = field(default_factory=dict)
    stored: AbstractSet[Place] = frozenset()
    """Whose values are there."""

    checks: Mapping[Place, Mapping[str, str | None]] = field(default_factory=dict)
    """Blocking checks that were ever planned: "" if what there is passed, what the check said if it failed,
    None if it did not run on that."""

    inputs: Mapping[str, str] = field(default_factory=dict)
    """Digest of all partitions that an unpartitioned asset reads, as INPUTS_TAG would have it by now."""

    newest: Mapping[str, int] = field(default_factory=dict)
    """Number of the newest event of any partition, of assets that have some."""

    earlier: Mapping[tuple[Place, int], str | None] = field(default_factory=dict)
    """Data versions of observed partitions at an earlier event."""


@dataclass(frozen=True)
class State:
    """Whether an asset (partition) needs to be made, and why; `blocked` names the parent that stops it."""

    key: str
    needed: bool
    why: str = ""
    blocked: str | None = None


def needed(
    facts: Facts, assets: Sequence[str], partition: str | None = None, just_made: Collection[str] = ()
) -> list[State]:
    """The state of each asset of a topologically ordered list, for one partition or unpartitioned ones.

    An asset is blocked if a parent of the same partition fails a blocking check and is not itself to be made
    again, or is blocked, or is missing and not in the list. For assets ``just_made``, newer data waits until
    they are asked for the next time (NEWER_DATA).
    """
    states: dict[str, State] = {}
    for asset in assets:
        why = need(facts, asset, partition, just_made)
        stops = (_stops(facts, parent, partition, states) for parent in _parents(facts, asset))
        states[asset] = State(asset, bool(why), why, next(filter(None, stops), None))
    return list(states.values())


def need(facts: Facts, asset: str, partition: str | None = None, just_made: Collection[str] = ()) -> str:
    """Why the asset must be made: `missing`, `value lost` or what changed; "" if it need not."""
    node, place = facts.graph[asset], (asset, partition)
    record = facts.records.get(place)
    if node.external:
        return ""
    if record is None:
        return "missing"
    if place not in facts.stored:
        return "value lost"
    if changes := "; ".join(dict.fromkeys(_changes(facts, asset, partition))):
        return changes
    if asset not in just_made and _newer_data(facts, asset):
        return NEWER_DATA
    return UNCHECKED if unchecked(facts, asset, partition) else ""


def failed_checks(facts: Facts, asset: str, partition: str | None = None) -> dict[str, str]:
    """Blocking checks that failed on what there is, with what they said.

    A failure that is only a warning blocks nothing, in Dagster neither.
    """
    found = facts.checks.get((asset, partition), {})
    return {name: said for name, said in found.items() if said}


def unchecked(facts: Facts, asset: str, partition: str | None = None) -> bool:
    """Whether a run made the asset and ended before a blocking check had run on it."""
    return None in facts.checks.get((asset, partition), {}).values()


def next_batch(
    graph: Mapping[str, Node], states: Iterable[State], without: Collection[str] = ()
) -> list[str]:
    """Which needed assets can be made in one run, in order, without making any of them twice.

    An asset that is up to date now may turn stale when an asset above it gives another value. What lies below
    such an asset waits for the next round, as does what lies below assets that are not to be made now
    (``without``); all others go together.
    """
    batch: list[str] = []
    unsure: set[str] = set()
    for state in states:
        parents = set(graph[state.key].parents)
        left_out = state.needed and state.key in without
        if state.blocked or left_out or parents & unsure or (not state.needed and parents & set(batch)):
            unsure.add(state.key)
        elif state.needed:
            batch.append(state.key)
    return batch


def content_digest(facts: Facts, batch: Sequence[str], partition: str | None) -> str:
    """Digest (16 hex) of what a run of these assets would be made from: it stays while nothing changes."""
    lines = [partition or ""]
    for asset in batch:
        places = [_place(facts, one, partition) for one in (asset, *facts.graph[asset].parents)]
        versions = [f"{place[0]}={_version(facts, place)}" for place in places]
        lines.append(f"{facts.graph[asset].code_version} {' '.join(versions)}")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def trained_on_tag(versions: Mapping[str, str]) -> dict[str, str]:
    """The tag that a model puts on its materialization: what it was made from, as data versions by asset."""
    text = "\n".join(f"{asset}={version}" for asset, version in sorted(versions.items()))
    return {TRAINED_ON_TAG: hashlib.sha256(text.encode()).hexdigest()[:16]}


def partition_digest(versions: Iterable[str]) -> str:
    """Dagster's data version of an input of which some partitions were read, from theirs by name."""
    return hashlib.sha256("".join(versions).encode()).hexdigest()


def _changes(facts: Facts, asset: str, partition: str | None) -> Iterator[str]:
    """What differs from what the materialization was made with and from."""
    node, record = facts.graph[asset], facts.records[asset, partition]
    if record.code_version is None:
        yield from _newer_parents(facts, asset, partition)
        return
    if node.code_version and node.code_version != record.code_version:
        yield "has a new code version"
    yield from (f"removed dependency on {name}" for name in sorted(set(record.inputs) - set(node.parents)))
    made_from_all = record.tags.get(INPUTS_TAG)
    if made_from_all is not None and made_from_all != facts.inputs.get(asset):
        yield "has a new dependency data version"
    for parent in node.parents:
        if parent not in record.inputs:
            yield f"has a new dependency on {parent}"
        elif facts.graph[parent].partitioned and not node.partitioned:
            if made_from_all is None and _newer_partitions(facts, parent, record.inputs[parent]):
                yield f"has a new dependency materialization: {parent}"
        elif _changed(facts, _place(facts, parent, partition), record.inputs[parent]):
            yield f"has a new dependency data version: {parent}"


def _newer_parents(facts: Facts, asset: str, partition: str | None) -> Iterator[str]:
    """Of what a person reported, nothing is known but when: whatever was made later counts as new."""
    node, record = facts.graph[asset], facts.records[asset, partition]
    for parent in node.parents:
        if facts.graph[parent].external:
            continue
        if facts.graph[parent].partitioned and not node.partitioned:
            newest = facts.newest.get(parent)
        else:
            found = facts.records.get(_place(facts, parent, partition))
            newest = found.number if found else None
        if newest is None:
            yield f"has a new input: {parent}"
        elif newest > record.number:
            yield f"has a new dependency materialization: {parent}"


def _newer_partitions(facts: Facts, parent: str, made_from: Input) -> bool:
    newest = facts.newest.get(parent)
    return newest is not None and (made_from.until is None or newest > made_from.until)


def _changed(facts: Facts, parent: Place, made_from: Input) -> bool:
    """Whether the parent (partition) has another data version than when something was made from it."""
    found = facts.records.get(parent)
    if not facts.graph[parent[0]].partitioned:
        now = _version(facts, parent)
        return made_from.version != now and (made_from.version, now) != (NO_VERSION, NOT_MADE)
    if found is None:
        return False
    external = facts.graph[parent[0]].external
    if made_from.until is None:  # never looked at before is as good as looked at without an entry
        return not external or found.data_version != NOTHING
    if found.number <= made_from.until:
        return False
    if external:
        return (facts.earlier.get((parent, made_from.until)) or NOTHING) != found.data_version
    return made_from.version != partition_digest([_version(facts, parent)])


def _version(facts: Facts, place: Place) -> str:
    found = facts.records.get(place)
    if found is None:
        return NO_VERSION if facts.graph[place[0]].external else NOT_MADE
    return found.data_version or NO_VERSION


def _newer_data(facts: Facts, asset: str) -> bool:
    """Whether a model was made from something else than there is by now."""
    record = facts.records.get((asset, None))
    made_from = record.tags.get(TRAINED_ON_TAG) if record else None
    if made_from is None:
        return False
    records = {parent: facts.records.get((parent, None)) for parent in facts.graph[asset].parents}
    versions = {parent: found.data_version for parent, found in records.items() if found}
    known = {parent: version for parent, version in versions.items() if version is not None}
    return len(known) == len(records) and trained_on_tag(known)[TRAINED_ON_TAG] != made_from


def _place(facts: Facts, asset: str, partition: str | None) -> Place:
    return asset, partition if facts.graph[asset].partitioned else None


def _parents(facts: Facts, asset: str) -> list[str]:
    """Parents of the same partition; the partitioned parents of an unpartitioned asset stop nothing."""
    node = facts.graph[asset]
    return [one for one in node.parents if node.partitioned or not facts.graph[one].partitioned]


def _stops(facts: Facts, parent: str, partition: str | None, states: Mapping[str, State]) -> str | None:
    state = states.get(parent)
    if state and state.blocked:
        return state.blocked
    if state and state.needed:
        return None
    place = _place(facts, parent, partition)
    if failed_checks(facts, *place) or (not state and unchecked(facts, *place)):
        return parent
    return parent if not state and need(facts, *place) == "missing" else None
