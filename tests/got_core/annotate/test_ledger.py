from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from got_core.annotate.config import OpenAIConfig
from got_core.annotate.estimate import STEPS, estimate_step
from got_core.annotate.ledger import Ledger, Question, Record
from got_core.annotate.usage import Usage
from got_core.storage import Storage

RECORD = Record(
    key="k0", step="ground", prompt="p", model="m", revision="", image=None, text="Größe\n\0",
    tokens_in=7, cost=0.5,
)  # fmt: skip
QUESTION = Question(
    step="ground", prompt="p", texts=(("a", "b"),), image="i", model="m", revision="r",
    sampling=(("seed", 0),),
)  # fmt: skip


def record(number: int) -> Record:
    return replace(RECORD, key=f"k{number}")


def test_a_key_is_everything_that_the_answer_depends_on() -> None:
    changes = [{"prompt": "q"}, {"texts": (("a", "c"),)}, {"image": "j"}, {"model": "n"}, {"revision": "s"}]
    changes += [{"sampling": (("seed", 1),)}]
    keys = {QUESTION.key} | {replace(QUESTION, **change).key for change in changes}
    assert len(keys) == 7
    assert replace(QUESTION, step="other").key == QUESTION.key


def test_cut_off_at_any_byte_it_keeps_the_lines_before(storage: Storage, tmp_path: Path) -> None:
    ledger = Ledger(storage, "shard")
    for number in range(3):
        ledger.finish(record(number))
    ledger.close()
    (segment,) = (tmp_path / "storage/ledger/shard").iterdir()
    data = segment.read_bytes()
    for cut in range(len(data) + 1):
        segment.write_bytes(data[:cut])
        found = Ledger(storage, "shard")
        whole = len(data[: cut + 1].split(b"\n")) - 1 if cut < len(data) else 3
        assert len(found) == whole
        assert found.damaged == (
            0 if data[:cut].endswith(b"\n") or not cut or data[cut : cut + 1] == b"\n" else 1
        )
    segment.write_bytes(data[:-9])
    after = Ledger(storage, "shard")
    after.finish(record(2))
    after.close()
    assert len(Ledger(storage, "shard")) == 3
    segment.write_bytes(data.replace(b"ground", b"grouse", 1))
    assert Ledger(storage, "shard").get("k0") is None


def test_requests_without_an_answer_count_with_their_worst_case(storage: Storage) -> None:
    most = Usage(100, 50, 3.0)
    killed = Ledger(storage, "shard")
    killed.reserve("k0", most)
    killed.reserve("k1", most)
    killed.finish(record(1), lost=Usage(1, 0, 0.25))
    killed.reserve("k2", most)
    killed.drop("k2", Usage(5, 5, 1.0))
    assert Ledger(storage, "shard").spent == Usage(100 + 8 + 5, 50 + 5, 3.0 + 0.75 + 1.0)
    again = Ledger(storage, "shard")
    again.reserve("k0", most)
    again.finish(record(0))
    assert Ledger(storage, "shard").spent == Usage(100 + 8 + 5 + 7, 50 + 5, 3.0 + 0.75 + 1.0 + 0.5)


@pytest.mark.parametrize("url", ["memory://ledger-test", "file://{}/store"])
def test_many_threads_and_an_object_store(url: str, tmp_path: Path) -> None:
    storage = Storage(url.format(tmp_path))
    ledger = Ledger(storage, "shard")
    threads = [
        threading.Thread(target=lambda start=start: [ledger.finish(record(start + k)) for k in range(25)])
        for start in range(0, 200, 25)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(Ledger(storage, "shard")) == 200
    ledger.close()
    assert len(storage.list("ledger/shard/")) == 1
    ledger.finish(record(200))
    ledger.close()
    found = Ledger(storage, "shard")
    assert len(found) == 201 and found.spent.tokens_in == 201 * 7
    assert found.get("k17") == record(17)
    assert len(Ledger(storage, "other")) == 0
    storage.delete("ledger")


def test_an_estimate_grows_with_rows_sizes_and_prices() -> None:
    config = OpenAIConfig(url="http://x/v1", vision_model="qwen2-vl", price_in=1.0, price_out=2.0)
    one, ten = (estimate_step("captions", rows, config) for rows in (1, 10))
    assert (one.calls, ten.calls) == (2, 20)
    assert ten.tokens_in == 10 * one.tokens_in > 20 * 1024 * 1024 // 28**2
    assert ten.money == pytest.approx((ten.tokens_in + 2 * ten.tokens_out) / 1e6)
    together, alone = (
        estimate_step("boxes", 10, replace(config, boxes=boxes), calls_per_row=2)
        for boxes in ("together", "one by one")
    )
    assert (together.calls, alone.calls) == (10, 20)
    assert together.tokens_in < alone.tokens_in and together.tokens_out > 10 * 30
    assert set(STEPS) == {"captions", "entities", "boxes", "edit_descriptions", "edit_boxes", "edit_chains"}
    steps = [estimate_step(step, 10 if step.startswith("edit_") else 100, config) for step in STEPS]
    assert sum(step.calls for step in steps) == 100 * 4 + 10 * 9
    assert all(step.gpu_hours > 0 for step in steps)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"url": "ftp://x"}, "url must be a URL"),
        ({"url": "http://me:secret@x/v1"}, "name or password"),
        ({"vision_model": ""}, "vision_model"),
        ({"concurrency": 0}, "concurrency"),
        ({"budget": -1.0}, "budget"),
        ({"timeout": 0.0}, "timeout"),
        ({"boxes": "all"}, "`together` or `one by one`"),
    ],
)
def test_settings_that_cannot_be(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        OpenAIConfig(**({"url": "http://x/v1", "vision_model": "qwen2-vl"} | change))
    assert "secret" not in str(caught.value)
