"""`got data`: verdicts, takedowns and selection as a person gives them. Import, export: `test_exchange`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from got_core.curate.config import CurateConfig
from got_core.curate.copies import TABLE
from got_core.curate.review import load_verdicts
from got_core.curate.rules import select_t2i
from got_core.curate.takedown import take_down
from got_core.curate.takedown_lists import COPIES_PAGE
from got_core.storage import Storage
from tests.got_core.curate.test_copies import five_pictures
from tests.got_core.curate.test_curation import GOOD, chains_of, raw_of

from .conftest import Result

Got = Callable[..., Result]


def verdict(number: int, said: str) -> dict[str, str]:
    return {"chain_id": f"chain-{number}", "kind": "t2i", "verdict": said}


def test_verdicts_go_to_the_storage_of_the_settings_or_a_named_one(
    got: Got, home: Path, tmp_path: Path
) -> None:
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text(json.dumps({"reviewer": "ada", "verdicts": [verdict(0, "reject")]}))
    bad.write_text(json.dumps({"reviewer": "bob", "verdicts": [verdict(1, "maybe"), verdict(2, "accept")]}))
    assert got("data", "review", good).status == 0
    assert load_verdicts(Storage(f"file://{home / 'storage'}"))["chain_id"].to_list() == ["chain-0"]
    url = f"file://{tmp_path / 'elsewhere'}"
    done = got("data", "review", good, bad, tmp_path / "gone.json", "--storage", url)
    assert done.status == 1 and "1 verdicts recorded as" in done.out
    assert "chain-1: no_verdict: 'maybe' is none of" in done.err and "gone.json" in done.err
    assert sorted(load_verdicts(Storage(url))["chain_id"]) == ["chain-0", "chain-1", "chain-2"]


def test_copies_are_listed_and_judged(got: Got, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = five_pictures(tmp_path)
    monkeypatch.setenv("GOT_STORAGE", corpus.storage.url)

    def said(*arguments: str, status: int = 0) -> str:
        done = got("data", "takedown", *arguments)
        assert done.status == status
        return done.out + done.err

    assert "matches nothing that is stored" in said("add", "f" * 64)
    assert "found; the next run removes it" in said("add", corpus.ids["original"], "--reason", "withdrawn")
    assert "no picture waits" in said("copies")
    take_down(corpus.storage, CurateConfig(), corpus.readers)
    listed = said("copies")
    assert corpus.ids["jpeg"] in listed and "jpeg.png" in listed and COPIES_PAGE in listed
    (waiting,) = json.loads(said("copies", "--json"))
    assert waiting["item_id"] == corpus.ids["jpeg"]
    assert "(removed: 2 image(s); 1 copies wait to be judged)" in said("list")
    rows = {row["id"]: row for row in json.loads(said("list", "--json"))}
    assert rows[corpus.ids["original"]]["reason"] == "withdrawn"
    assert "not among the copies" in said("confirm", "f" * 64, status=1)
    assert "the next run removes them" in said("confirm", corpus.ids["jpeg"])
    assert "no picture waits" in said("copies")
    assert corpus.storage.read_table(TABLE).height == 1, "the next run takes it off"


def test_a_file_of_chains_is_selected(got: Got, tmp_path: Path) -> None:
    chains, raw, out = chains_of(GOOD, "no box"), raw_of(2), tmp_path / "selection.parquet"
    chains.write_parquet(tmp_path / "chains.parquet")
    raw.write_parquet(tmp_path / "raw.parquet")
    done = got("data", "select", tmp_path / "chains.parquet", tmp_path / "raw.parquet", out, "--json")
    assert done.json["accepted"] == 1 and done.json["no_box"] == 1
    assert pl.read_parquet(out).equals(select_t2i(chains, raw, CurateConfig()))
    failed = got("data", "select", tmp_path / "raw.parquet", tmp_path / "raw.parquet", out)
    assert failed.status == 1 and "has no column chain_id" in failed.err
