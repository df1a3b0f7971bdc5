"""The ledger in an object store: requests counted at a server, processes killed, two at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from got_core.annotate import ledger_segments, t2i
from got_core.annotate.config import VLLMConfig
from got_core.annotate.ledger import Ledger, Record
from got_core.annotate.ledger_entries import line_of, read_segment
from got_core.annotate.ledger_segments import load_segments, put_table
from got_core.annotate.openai_annotator import OpenAIAnnotator
from got_core.annotate.ray_batch import RayAnnotator
from got_core.annotate.schemas import CAPTIONS
from got_core.annotate.usage import Usage
from got_core.storage import Storage
from tests.counted_s3 import CountedS3
from tests.got_core.annotate.chat_server import SCOPE, ChatServer, config_for, plain_picture, raw_table
from tests.got_core.annotate.scenes_on_hand import table
from tests.got_core.annotate.test_ledger import RECORD, record

FOLDER = "ledger/shard"


@pytest.fixture
def s3(s3_server: Any) -> CountedS3:
    return CountedS3(s3_server)


@pytest.fixture
def storage(s3: CountedS3, tmp_path: Path) -> Storage:
    return s3.storage(cache_dir=tmp_path / "cache")


def journals(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache" / "ledger").rglob("*.jsonl"))


def filled(storage: Storage, numbers: range, flush_each: int = 0) -> Ledger:
    ledger = Ledger(storage, "shard")
    for count, number in enumerate(numbers, start=1):
        ledger.finish(record(number), lost=Usage(1, 0, 0.25))
        if flush_each and count % flush_each == 0:
            ledger.flush()
    return ledger


def test_a_ledger_that_is_not_asked_sends_nothing(s3: CountedS3, storage: Storage, tmp_path: Path) -> None:
    Ledger(storage, "shard").close()
    assert s3.requests == [] and not (tmp_path / "cache").exists()


def test_a_run_costs_a_listing_and_at_most_two_requests_a_segment(s3: CountedS3, storage: Storage) -> None:
    ledger = filled(storage, range(100), flush_each=10)
    assert s3.methods == {"GET": 1, "PUT": 10}
    ledger.close()
    assert s3.methods == {"GET": 1, "PUT": 11, "POST": 1}, "one table, and all segments deleted at once"
    (table,) = storage.list(f"{FOLDER}/")
    assert table.endswith(".parquet")
    s3.reset()
    found = Ledger(storage, "shard")
    assert len(found) == 100 and found.get("k17") == record(17)
    assert found.spent == Usage(100 * 8, 0, 100 * 0.75)
    found.close()
    assert s3.methods == {"GET": 2}, s3.requests
    s3.reset()
    filled(storage, range(100, 103)).close()
    assert s3.methods == {"GET": 2, "PUT": 1}, "few lines go into their table at once"


def test_many_segments_of_killed_processes_are_read_side_by_side_and_put_together(
    s3: CountedS3, storage: Storage
) -> None:
    for k in range(24):
        storage.write_bytes(
            f"{FOLDER}/{k:020d}-dead-000000.jsonl",
            line_of({"run": f"r{k}", "n": 0, "kind": "done", **vars(record(k)), "lost": [0, 0, 0.0]}),
        )
    s3.reset()
    ledger = Ledger(storage, "shard")
    assert len(ledger) == 24 and s3.methods == {"GET": 25}
    ledger.finish(record(24))
    ledger.close()
    assert sum(s3.methods.values()) <= 2 * 24 + 3
    assert len(storage.list(f"{FOLDER}/")) == 1
    found = Ledger(storage, "shard")
    assert len(found) == 25 and found.spent.tokens_in == 25 * 7


WRITER = """
import sys
from pathlib import Path
from typing import Any
from dataclasses import replace
from got_core.annotate import ledger_segments
from got_core.annotate.ledger import Ledger
from got_core.storage import Storage
from tests.got_core.annotate.test_ledger import record
ledger_segments.SYNC_SECONDS = 0.05
storage = Storage(sys.argv[1], endpoint_url=sys.argv[2], cache_dir=Path(sys.argv[3]))
ledger = Ledger(storage, "shard")
for number in range(100000):
    ledger.finish(record(number))
    print(number, flush=True)
"""


@pytest.mark.parametrize("lines", [1, 40, 400, 2000])
def test_killed_at_any_moment_every_finished_question_is_found(
    s3: CountedS3, storage: Storage, tmp_path: Path, lines: int
) -> None:
    command = [sys.executable, "-c", WRITER, storage.url, s3.url, str(tmp_path / "cache")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(lines):
            process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)
        rest = [int(line) for line in process.stdout.read().split("\n") if line.strip().isdigit()]
    last = rest[-1] if rest else lines - 1
    found = Ledger(storage, "shard")
    assert {f"k{k}" for k in range(last + 1)} <= found._records.keys()
    assert len(found) <= last + 3
    assert found.spent.tokens_in == 7 * len(found), "in the store, in the journal or in both: it counts once"
    assert journals(tmp_path) == [], "what the killed process left on this machine is in the store"
    elsewhere = s3.storage(cache_dir=tmp_path / "other machine")
    assert Ledger(elsewhere, "shard")._records == found._records


def test_a_store_that_is_away_loses_nothing(s3: CountedS3, storage: Storage, tmp_path: Path) -> None:
    ledger = filled(storage, range(3))
    write, storage.write_bytes = storage.write_bytes, _refused  # type: ignore[method-assign]
    ledger.finish(record(3))
    with pytest.raises(ConnectionError):
        ledger.close()
    assert len(journals(tmp_path)) == 1
    storage.write_bytes = write  # type: ignore[method-assign]
    ledger.finish(record(4))
    ledger.close()
    assert len(Ledger(storage, "shard")) == 5 and journals(tmp_path) == []


def _refused(*_: object) -> None:
    raise ConnectionError("no store")


def test_two_that_put_the_same_segments_together_lose_and_double_nothing(storage: Storage) -> None:
    for start in range(0, 100, 10):
        filled(storage, range(start, start + 10)).close()
    assert len(storage.list(f"{FOLDER}/")) <= ledger_segments.MERGE + 1
    ledgers = [filled(storage, range(100 + k, 101 + k), flush_each=1) for k in range(6)]
    threads = [threading.Thread(target=ledger.close) for ledger in ledgers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = Ledger(storage, "shard")
    assert len(found) == 106 and found.spent == Usage(106 * 8, 0, 106 * 0.75)


def test_one_that_is_put_together_by_another_goes_on(storage: Storage) -> None:
    living = filled(storage, range(10), flush_each=1)
    living.reserve("k10", Usage(5, 5, 1.0))
    living.flush()
    filled(storage, range(20, 21)).close()  # takes the other's eleven segments into its table
    assert len(storage.list(f"{FOLDER}/")) == 1
    living.finish(record(10))
    living.close()
    found = Ledger(storage, "shard")
    assert len(found) == 12 and found.spent == Usage(12 * 7 + 11, 0, 12 * 0.5 + 11 * 0.25)


def test_a_torn_segment_is_named_and_kept_and_the_rest_is_read(storage: Storage) -> None:
    filled(storage, range(3)).close()
    (table,) = storage.list(f"{FOLDER}/")
    data = storage.read_bytes(table)
    whole = put_table(storage, FOLDER, read_segment(table, data).entries)
    storage.write_bytes(table, data[:-20])
    lines = b"".join(
        line_of({"run": "old", "kind": "done", **vars(record(k)), "lost": [0, 0, 0.0]}) for k in (7, 8)
    )
    storage.write_bytes(f"{FOLDER}/0-old.jsonl", lines[:-5])
    for k in range(10):
        filled(storage, range(30 + k, 31 + k)).close()
    found = Ledger(storage, "shard")
    assert found._records.keys() == {"k0", "k1", "k2", "k7", *(f"k{30 + k}" for k in range(10))}
    assert found.faults.keys() == {table, f"{FOLDER}/0-old.jsonl"} and found.damaged == 2
    assert "line 2" in found.faults[f"{FOLDER}/0-old.jsonl"] and "its name" in found.faults[table]
    assert whole not in storage.list(f"{FOLDER}/")


def test_ledgers_of_before_are_read_on(storage: Storage) -> None:
    lines = [
        {"run": "a", "kind": "asked", "key": "k0", "tokens_in": 100, "tokens_out": 50, "cost": 3.0},
        {"run": "a", "kind": "asked", "key": "k0", "tokens_in": 100, "tokens_out": 50, "cost": 3.0},
        {"run": "a", "kind": "done", **vars(record(1)), "lost": [1, 0, 0.25]},
    ]
    storage.write_bytes(f"{FOLDER}/00-a-000000.jsonl", b"".join(map(line_of, lines)))
    expected = Usage(200 + 8, 100, 6.75)
    assert Ledger(storage, "shard").spent == expected
    for k in range(20):  # and so they are once they are part of a table
        filled(storage, range(50 + k, 51 + k)).close()
    assert f"{FOLDER}/00-a-000000.jsonl" not in storage.list(f"{FOLDER}/")
    found = Ledger(storage, "shard")
    assert found.spent == expected + Usage(20 * 8, 0, 20 * 0.75) and found.get("k1") == record(1)


def test_any_text_survives_a_table(storage: Storage) -> None:
    odd = replace(RECORD, text="a\0b\n\ud800 Größe 🙂", reason="bad_reply", detail="d", image="i", cost=1e-9)
    ledger = Ledger(storage, "shard")
    ledger.finish(odd)
    ledger.close()
    found = Ledger(storage, "shard").get("k0")
    assert found == replace(odd, text="a\0b\n? Größe 🙂")
    assert isinstance(found, Record)


def test_segments_that_go_while_they_are_read_are_looked_for_again(storage: Storage) -> None:
    filled(storage, range(3)).close()
    (table,) = storage.list(f"{FOLDER}/")
    read_many = storage.read_many

    def replaced_before(names: list[str]) -> dict[str, bytes]:
        if table in names and table in storage.list(f"{FOLDER}/"):
            put_table(storage, FOLDER, read_segment(table, storage.read_bytes(table)).entries)
            storage.delete_many([table])
        return read_many(names)

    storage.read_many = replaced_before  # type: ignore[method-assign]
    assert len(load_segments(storage, FOLDER).entries) == 3


def test_an_annotator_that_is_asked_nothing_opens_nothing(s3: CountedS3, storage: Storage) -> None:
    captions = table([], CAPTIONS)
    with OpenAIAnnotator(config_for("http://127.0.0.1:1/v1"), Ledger(storage, "shard")) as annotator:
        t2i.extract_entities(captions, annotator)
        assert annotator.spent is None and annotator.requests == annotator.reused == 0
    config = VLLMConfig(vision_model="eyes", box_unit="thousandths")
    with RayAnnotator(config, storage, "shard") as engines:
        assert engines.spent is None
    assert s3.requests == []


def test_annotation_with_its_ledger_on_s3(s3: CountedS3, storage: Storage) -> None:
    with ChatServer() as server:
        for _ in range(2):
            with OpenAIAnnotator(config_for(server.url), Ledger(storage, SCOPE)) as annotator:
                captions = t2i.caption_images(raw_table(20), plain_picture, annotator)
                t2i.extract_entities(captions, annotator)
        assert len(server.requests) == 60
    assert s3.methods == {"GET": 3, "PUT": 1}
