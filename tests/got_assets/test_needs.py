"""What is needed next, as a table of cases: plain facts in, states out. No Dagster, no files."""

from __future__ import annotations

from dataclasses import replace

import pytest

from got_assets.needs import (
    INPUTS_TAG,
    NEWER_DATA,
    TRAINED_ON_TAG,
    Facts,
    Input,
    Node,
    Record,
    State,
    failed_checks,
    need,
    needed,
    next_batch,
    partition_digest,
    trained_on_tag,
)

SHARD = "images-00000"
RAW, CAPTIONS, CHAINS, MANIFEST, MODEL = "raw", "captions", "chains", "manifest", "model"
GRAPH = {
    RAW: Node(partitioned=True, code_version="1"),
    "taken": Node(partitioned=True, external=True),
    CAPTIONS: Node(parents=(RAW,), partitioned=True, code_version="1"),
    CHAINS: Node(parents=(CAPTIONS, RAW, "taken"), partitioned=True, code_version="1"),
    MANIFEST: Node(parents=(CHAINS,), code_version="1"),
    MODEL: Node(parents=(MANIFEST,), code_version="1"),
}
STEPS = (RAW, CAPTIONS, CHAINS)


def of(version: str, until: int | None) -> Input:
    """What a step recorded of a parent's partition."""
    return Input(version=partition_digest([version]), until=until)


RECORDS = {
    (RAW, SHARD): Record(number=10, data_version="r", code_version="1"),
    ("taken", SHARD): Record(number=11, data_version="t"),
    (CAPTIONS, SHARD): Record(number=12, data_version="c", code_version="1", inputs={RAW: of("r", 10)}),
    (CHAINS, SHARD): Record(
        number=13,
        data_version="k",
        code_version="1",
        inputs={RAW: of("r", 10), CAPTIONS: of("c", 12), "taken": of("", 11)},
    ),
    (MANIFEST, None): Record(
        number=20,
        data_version="m",
        code_version="1",
        inputs={CHAINS: Input(version="whatever", until=13)},
        tags={INPUTS_TAG: "all"},
    ),
    (MODEL, None): Record(
        number=21,
        data_version="w",
        code_version="1",
        inputs={MANIFEST: Input(version="m", until=20)},
        tags=trained_on_tag({MANIFEST: "m"}),
    ),
}
MADE = Facts(
    graph=GRAPH,
    records=RECORDS,
    stored=frozenset(RECORDS),
    checks={(RAW, SHARD): {"few_enough_errors": ""}},
    inputs={MANIFEST: "all"},
)


def with_record(asset: str, partition: str | None = SHARD, **changes: object) -> Facts:
    """The made facts, with another record of one asset."""
    return replace(
        MADE, records={**RECORDS, (asset, partition): replace(RECORDS[asset, partition], **changes)}
    )


def without(asset: str, partition: str | None = SHARD) -> Facts:
    return replace(
        MADE, records={place: one for place, one in RECORDS.items() if place != (asset, partition)}
    )


def with_node(asset: str, **changes: object) -> Facts:
    return replace(MADE, graph={**GRAPH, asset: replace(GRAPH[asset], **changes)})


def checked(said: str | None) -> Facts:
    """The made facts, with another word of the check of raw images."""
    return replace(MADE, checks={(RAW, SHARD): {"few_enough_errors": said}})


NEWER_CHAINS = with_node(CHAINS, code_version="2")
OBSERVED_AGAIN = with_record("taken", number=30, data_version="t")
CASES = {
    "up to date": (MADE, CHAINS, ""),
    "never made": (without(CHAINS), CHAINS, "missing"),
    "its file is gone": (
        replace(MADE, stored=MADE.stored - {(CHAINS, SHARD)}),
        CHAINS,
        "value lost",
    ),
    "another code version": (with_node(CAPTIONS, code_version="2"), CAPTIONS, "has a new code version"),
    "no code version any more": (with_node(CAPTIONS, code_version=None), CAPTIONS, ""),
    "a parent's other content": (
        with_record(RAW, number=30, data_version="other"),
        CAPTIONS,
        "has a new dependency data version: raw",
    ),
    "a parent made again with the same content": (with_record(RAW, number=30), CAPTIONS, ""),
    "a parent's record was wiped": (without(RAW), CAPTIONS, ""),
    "two causes": (
        replace(with_record(RAW, number=30, data_version="x"), graph=NEWER_CHAINS.graph),
        CHAINS,
        "has a new code version; has a new dependency data version: raw",
    ),
    "a new parent": (with_node(CAPTIONS, parents=(CHAINS, RAW)), CAPTIONS, "has a new dependency on chains"),
    "a parent less": (with_node(CAPTIONS, parents=()), CAPTIONS, "removed dependency on raw"),
    "a parent that had no event when it was made": (
        with_record(CAPTIONS, inputs={RAW: of("", None)}),
        CAPTIONS,
        "has a new dependency data version: raw",
    ),
    "a source that was observed again and is the same": (
        replace(OBSERVED_AGAIN, earlier={(("taken", SHARD), 11): "t"}),
        CHAINS,
        "",
    ),
    "a source that changed": (
        replace(
            with_record("taken", number=30, data_version="new"), earlier={(("taken", SHARD), 11): "t"}
        ),
        CHAINS,
        "has a new dependency data version: taken",
    ),
    "a source is never made": (without("taken"), "taken", ""),
    "reported by a person": (with_record(CAPTIONS, code_version=None, inputs={}, by_hand=True), CAPTIONS, ""),
    "reported by a person, before its parent": (
        with_record(CAPTIONS, number=5, code_version=None, inputs={}, by_hand=True),
        CAPTIONS,
        "has a new dependency materialization: raw",
    ),
    "its check did not run": (checked(None), RAW, "its check did not run"),
    "its check failed": (checked("half of it is broken"), RAW, ""),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_why_a_shards_asset_is_needed(name: str) -> None:
    facts, asset, why = CASES[name]
    assert need(facts, asset, SHARD) == why


WHOLE = {
    "up to date": (MADE, MANIFEST, ""),
    "a shard changed": (
        replace(MADE, inputs={MANIFEST: "other"}), MANIFEST, "has a new dependency data version"
    ),
    "made before the digest was kept": (
        replace(with_record(MANIFEST, None, tags={}), newest={CHAINS: 13}), MANIFEST, ""
    ),
    "the same, and a shard was made since": (
        replace(with_record(MANIFEST, None, tags={}), newest={CHAINS: 30}),
        MANIFEST,
        "has a new dependency materialization: chains",
    ),
    "reported before a shard was made": (
        replace(with_record(MANIFEST, None, tags={}, code_version=None, inputs={}), newest={CHAINS: 30}),
        MANIFEST,
        "has a new dependency materialization: chains",
    ),
    "a model of another manifest": (
        with_record(MANIFEST, None, number=30, data_version="n"),
        MODEL,
        "has a new dependency data version: manifest",
    ),
    "a model that went on with older data": (
        with_record(MODEL, None, tags={TRAINED_ON_TAG: "of older data"}), MODEL, NEWER_DATA
    ),
    "a model whose parent is gone": (
        without(MANIFEST, None), MODEL, "has a new dependency data version: manifest"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WHOLE)
def test_why_an_asset_without_partitions_is_needed(name: str) -> None:
    facts, asset, why = WHOLE[name]
    assert need(facts, asset) == why


def test_newer_data_waits_for_the_next_time_where_the_model_was_just_made() -> None:
    facts = with_record(MODEL, None, tags={TRAINED_ON_TAG: "of older data"})
    assert need(facts, MODEL, just_made=[MODEL]) == ""


NOTHING = Facts(graph=GRAPH)
STATES = {
    "nothing is there": (NOTHING, STEPS, [(True, None), (True, None), (True, None)]),
    "all is there": (MADE, STEPS, [(False, None), (False, None), (False, None)]),
    "a failed check stops what lies below": (
        checked("bad"), STEPS, [(False, None), (False, RAW), (False, RAW)],
    ),
    "a check that has to run first stops nothing": (
        checked(None), STEPS, [(True, None), (False, None), (False, None)],
    ),
    "a check that is not in the list and did not run": (checked(None), (CAPTIONS,), [(False, RAW)]),
    "a parent that is missing and not in the list": (NOTHING, (CAPTIONS,), [(True, RAW)]),
    "a failed check of what is made again anyway": (
        replace(checked("bad"), stored=MADE.stored - {(RAW, SHARD)}),
        STEPS,
        [(True, None), (False, None), (False, None)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STATES)
def test_what_stops_a_shard(name: str) -> None:
    facts, assets, expected = STATES[name]
    assert [(state.needed, state.blocked) for state in needed(facts, assets, SHARD)] == expected


def test_shards_do_not_stop_assets_without_partitions() -> None:
    assert needed(checked("bad"), [MANIFEST]) == [State(MANIFEST, False)]


def test_a_failed_check_is_quoted() -> None:
    assert failed_checks(checked("half of it is broken"), RAW, SHARD) == {
        "few_enough_errors": "half of it is broken"
    }
    assert failed_checks(checked(None), RAW, SHARD) == failed_checks(MADE, RAW, SHARD) == {}


@pytest.mark.parametrize(
    ("wanted", "left_out", "batch"),
    [
        ((RAW, CAPTIONS, CHAINS), (), [RAW, CAPTIONS, CHAINS]),
        ((RAW,), (), [RAW]),
        ((RAW, CHAINS), (), [RAW]),
        ((CAPTIONS, CHAINS), (), [CAPTIONS, CHAINS]),
        ((RAW, CAPTIONS, CHAINS), (CAPTIONS,), [RAW]),
        ((CHAINS,), (CAPTIONS,), [CHAINS]),
        ((CAPTIONS, CHAINS), (CAPTIONS,), []),
    ],
)
def test_one_run_makes_nothing_twice_and_nothing_below_what_is_left_out(
    wanted: tuple[str, ...], left_out: tuple[str, ...], batch: list[str]
) -> None:
    states = [State(name, name in wanted) for name in STEPS]
    assert next_batch(GRAPH, states, left_out) == batch
