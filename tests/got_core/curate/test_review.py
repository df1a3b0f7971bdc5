"""Verdicts of people: read, checked, kept, applied."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from got_core.annotate.schemas import EDIT_CHAINS, T2I_CHAINS
from got_core.corpus.schemas import RAW_IMAGES, check_schema
from got_core.curate.config import CurateConfig
from got_core.curate.review import (
    apply_verdicts,
    corrected,
    load_verdicts,
    read_verdict_file,
    record_file,
    review_queue,
    select_reviewed,
)
from got_core.curate.review_schemas import QUEUE, VERDICTS
from got_core.curate.rules import select_t2i
from got_core.curate.schemas import SELECTION
from got_core.filesystems import files_of, read_whole
from got_core.storage import Storage
from tests.got_core.annotate.scenes_on_hand import table

GOOD = "a cat (10,20),(300,400) on a mat"
NOW = datetime(2030, 1, 1, tzinfo=UTC)


def chains_of(*chains: str | None) -> pl.DataFrame:
    rows = [
        {
            "chain_id": f"chain-{k}",
            "image_id": f"image-{k}",
            "prompt": "a photo of a cat",
            "caption": "a cat on a mat",
            "phrases": ["cat"],
            "chain": chain,
            "boxes": 1,
            "error": None if chain else "not_a_chain: x",
        }
        for k, chain in enumerate(chains)
    ]
    return table(rows, T2I_CHAINS)


def raw_of(count: int) -> pl.DataFrame:
    return table([{"image_id": f"image-{k}", "path": f"{k}.png"} for k in range(count)], RAW_IMAGES)


def verdict(number: int, what: str, day: int = 1, **also: Any) -> dict[str, Any]:
    return {
        "chain_id": f"chain-{number}",
        "kind": "t2i",
        "verdict": what,
        "time": f"2019-01-{day:02d}T00:00:00Z",
        **also,
    }


def verdicts_of(*entries: Any, reviewer: str = "ada") -> pl.DataFrame:
    data = json.dumps({"reviewer": reviewer, "verdicts": entries}).encode()
    return read_verdict_file(data, NOW)


def test_verdicts_change_a_selection() -> None:
    long = "a cat (10,20),(300,400) " + "and so on " * 30
    chains, raw = chains_of(GOOD, long, None, "a cat", GOOD), raw_of(5)
    config = CurateConfig(max_chain_chars=200)
    verdicts = verdicts_of(
        verdict(0, "reject", note="blurred"),
        verdict(1, "accept"),
        verdict(2, "accept"),
        verdict(3, "correct", chain=" a dog (1,2),(500,600) sleeps "),
    )
    selection = select_reviewed(select_t2i, chains, raw, config, verdicts=verdicts)
    check_schema(selection, SELECTION, "selection")
    assert selection["accepted"].to_list() == [False, True, False, True, True]
    assert selection["rule"].to_list() == ["reviewer", None, "failed_annotation", None, None]
    assert selection["detail"][0] == "ada: blurred"
    fixed = corrected(chains, verdicts)
    check_schema(fixed, T2I_CHAINS, "t2i_chains")
    assert fixed.row(3, named=True) | {"error": None} == chains.row(3, named=True) | {
        "chain": "a dog (1,2),(500,600) sleeps",
        "caption": "a dog sleeps",
        "phrases": ["a dog"],
        "boxes": 1,
    }
    assert fixed.filter(pl.col("chain_id") != "chain-3").equals(
        chains.filter(pl.col("chain_id") != "chain-3")
    )


def test_a_corrected_chain_is_judged_by_the_rules_too() -> None:
    chains = chains_of("a cat (10,20),(300,400) a dog (10,20),(300,400)")
    verdicts = verdicts_of(verdict(0, "correct", chain="a cat (10,20),(12,400)"))
    selection = select_reviewed(select_t2i, chains, raw_of(1), CurateConfig(), verdicts=verdicts)
    assert selection["rule"].to_list() == ["box_degenerate"]
    # Accepting it afterwards keeps the correction.
    both = pl.concat([verdicts, verdicts_of(verdict(0, "accept", day=2))])
    assert select_reviewed(select_t2i, chains, raw_of(1), CurateConfig(), verdicts=both)["accepted"].all()
    assert corrected(chains, both)["chain"][0] == "a cat (10,20),(12,400)"


def test_the_last_usable_verdict_counts_and_stale_corrections_do_not() -> None:
    chains, raw = chains_of(GOOD, GOOD), raw_of(2)
    verdicts = pl.concat(
        [
            verdicts_of(verdict(0, "accept", day=3), verdict(0, "reject", day=2), verdict(0, "shrug", day=4)),
            verdicts_of(
                verdict(1, "correct", chain="a dog (1,2),(300,400)", before="an older chain (1,1),(9,9)"),
                reviewer="bob",
            ),
        ]
    )
    assert select_reviewed(select_t2i, chains, raw, CurateConfig(), verdicts=verdicts)["accepted"].all()
    assert corrected(chains, verdicts).equals(chains)
    fits = verdicts_of(verdict(1, "correct", chain="a dog (1,2),(300,400)", before=GOOD))
    assert corrected(chains, fits)["chain"].to_list() == [GOOD, "a dog (1,2),(300,400)"]


def test_no_verdict_overrules_unsafe_content() -> None:
    row = {
        "chain_id": "chain-0",
        "item_id": "image-0",
        "accepted": False,
        "rule": "unsafe_content",
        "detail": "x",
    }
    selection = table([row], SELECTION)
    assert apply_verdicts(selection, verdicts_of(verdict(0, "accept"))).equals(selection)


def test_every_bad_verdict_keeps_its_row_with_the_reason() -> None:
    edit = {"chain_id": "e", "kind": "edit", "verdict": "correct"}
    frame = verdicts_of(
        7,
        {"verdict": "accept", "kind": "t2i"},
        verdict(0, "maybe"),
        verdict(0, "accept", kind="video"),
        verdict(0, "correct"),
        verdict(0, "correct", chain="a cat"),
        verdict(0, "correct", chain="a cat (5,5),(1,1)"),
        {**edit, "chain": "a cat (1,2),(300,400)"},
        {**edit, "chain": "1. a room 2. a cat 3. (1,2),(300,400) 4. goes 5. a room"},
        verdict(0, "accept", note="\ud800", time="yesterday"),
        verdict(0, "accept", time="2099-01-01T00:00:00Z"),
    )
    check_schema(frame, VERDICTS, "verdicts")
    assert frame["reason"].to_list() == ["no_verdict"] * 4 + ["not_a_chain"] * 4 + [None] * 3
    assert frame["time"].to_list()[-2:] == [NOW, NOW]
    assert frame["reviewer"].to_list() == ["ada"] * 11


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"{", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "verdicts are"),
        (b'{"verdicts": {}}', "verdicts are"),
        (b'{"verdicts": [], "reviewer": " "}', "no reviewer"),
    ],
)
def test_a_file_that_is_none_is_one_error(data: bytes, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        read_verdict_file(data)


def test_a_file_is_recorded_once_and_says_what_is_unused(storage: Storage, tmp_path: Path) -> None:
    path = tmp_path / "verdicts.json"
    path.write_text(json.dumps({"reviewer": "bob", "verdicts": [verdict(1, "maybe"), verdict(2, "accept")]}))
    recorded = record_file(storage, path)
    assert (recorded.used, [one for one, _ in recorded.unused]) == (1, ["chain-1"])
    assert "no_verdict: 'maybe' is none of" in recorded.unused[0][1]
    frame = load_verdicts(storage)
    assert sorted(frame["chain_id"]) == ["chain-1", "chain-2"]
    assert record_file(storage, path).table == recorded.table, "the same file twice is one table"
    assert load_verdicts(storage).equals(frame)


def test_verdicts_of_several_reviewers_come_together_from_a_bucket(s3_server: Any) -> None:
    options = {"endpoint_url": s3_server.url}
    inbox = Storage(f"s3://{s3_server.bucket}/verdicts", **options)
    place = Storage(f"s3://{s3_server.bucket}/got", **options)
    for name, entries in {
        "ada": [verdict(1, "accept"), verdict(2, "reject")],
        "later/bob": [verdict(3, "reject"), verdict(4, "no such verdict")],
        "_parts/cy": [verdict(5, "reject")],
    }.items():
        inbox.write_json(f"{name}.json", {"reviewer": name, "verdicts": entries})
    names = files_of(f"{inbox.url}/", (".json",), **options)
    assert [name.rpartition("verdicts/")[2] for name in names] == ["ada.json", "later/bob.json"]
    for name in [*reversed(names), *names]:
        record_file(place, name, **options)
    found = load_verdicts(place)
    assert sorted(found["chain_id"]) == ["chain-1", "chain-2", "chain-3", "chain-4"]
    assert set(found["reviewer"]) == {"ada", "later/bob"}
    with pytest.raises(FileNotFoundError, match=r"verdicts/eve\.json does not exist"):
        record_file(place, f"{inbox.url}/eve.json", **options)
    with pytest.raises(FileNotFoundError, match=r"nobody/ holds no \.json file"):
        files_of(f"s3://{s3_server.bucket}/nobody/", (".json",), **options)


def test_a_file_that_is_too_large_is_one_error(tmp_path: Path) -> None:
    path = tmp_path / "large.json"
    path.write_bytes(b" " * (2 << 20) + b"x")
    with pytest.raises(ValueError, match=r"large\.json has more than 2 MiB: split it"):
        read_whole(str(path), 2 << 20)


def test_no_verdicts_change_nothing(storage: Storage) -> None:
    chains, none = chains_of(GOOD, "a cat"), load_verdicts(storage)
    check_schema(none, VERDICTS, "verdicts")
    selection = select_t2i(chains, raw_of(2), CurateConfig())
    assert select_reviewed(select_t2i, chains, raw_of(2), CurateConfig(), verdicts=none).equals(selection)


def test_the_queue_draws_the_same_rows_for_a_seed() -> None:
    chains, raw = chains_of(*[GOOD] * 30, None), raw_of(31)
    selection = select_t2i(chains, raw, CurateConfig())
    queue = review_queue(selection, chains, "images-0", 10)
    check_schema(queue, QUEUE, "queue")
    assert queue["chain_id"].n_unique() == 10
    assert queue.equals(review_queue(selection.reverse(), chains, "images-0", 10))
    assert not queue.equals(review_queue(selection, chains, "images-0", 10, seed=1))
    assert review_queue(selection, chains, "images-0", 99).height == 30, (
        "a row without a chain has nothing to judge"
    )
    edits = table([{"chain_id": "e", "pair_id": "p", "instruction": "go", "chain": GOOD}], EDIT_CHAINS)
    chosen = table([{"chain_id": "e", "item_id": "p", "accepted": True}], SELECTION)
    assert review_queue(chosen, edits, "edits-0", 1).row(0)[:5] == ("e", "edit", "edits-0", "p", "go")
