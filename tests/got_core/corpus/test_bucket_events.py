"""Bucket events in every form in which they are handed on, and objects with events as input of a sweep."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from got_core.corpus import event_objects
from got_core.corpus import sweep as sweep_module
from got_core.corpus.bucket_events import BadEvent, Event, events_in, latest
from got_core.corpus.decode import REASONS
from got_core.corpus.ingest import ingest_images
from got_core.corpus.shards import assign_image_shards, read_shard, shard_names
from got_core.corpus.sweep import sweep_step
from got_core.filesystems import StoreUnavailableError
from got_core.storage import Storage
from tests.faults.answers import SLOW_DOWN
from tests.faults.proxy import FaultProxy
from tests.faults.rules import Cut

from .pictures import png
from .published import Row, bridge_event, notification, publish
from .test_inventories import CONFIG, Bucket, found

TEST_EVENT = {
    "Service": "Amazon S3", "Event": "s3:TestEvent", "Time": "2026-01-01T00:00:00.000Z", "Bucket": "b",
    "RequestId": "5582815E1AEA5ADF", "HostId": "8cLeGAmw098X5cv4",
}  # fmt: skip
ROW = Row("raw/a+b c%é.png", 12, "f" * 32)


def parsed(*documents: Any, between: str = "\n") -> list[tuple[str, bool, int | None, str | None]]:
    data = between.join(json.dumps(one) for one in documents).encode()
    events = [one for one in events_in(data) if isinstance(one, Event)]
    return [(one.key, one.removed, one.size, one.etag) for one in events]


WRITTEN = (ROW.key, False, 12, "f" * 32)
RECORD = notification("b", ROW)
BRIDGE = bridge_event("b", ROW)
MINIO = {**RECORD, "eventName": "s3:ObjectCreated:Put"}


@pytest.mark.parametrize(
    "document",
    [
        {"Records": [RECORD]},
        RECORD,
        BRIDGE,
        [BRIDGE],
        {"EventName": MINIO["eventName"], "Key": "b/raw/x", "Records": [MINIO]},
        {"Type": "Notification", "TopicArn": "arn", "Message": json.dumps({"Records": [RECORD]})},
        {"Records": [{"body": json.dumps({"Records": [RECORD]}), "eventSource": "aws:sqs"}]},
        {"Records": [{"EventSource": "aws:sns", "Sns": {"MessageId": "1", "Message": json.dumps(BRIDGE)}}]},
        {"Messages": None, "Body": json.dumps(BRIDGE)},
        {"Records": [{"body": json.dumps({"TopicArn": "a", "Message": json.dumps({"Records": [RECORD]})})}]},
    ],
)  # fmt: skip
def test_forms_of_an_event(document: Any) -> None:
    assert parsed(document) == [WRITTEN]


@pytest.mark.parametrize("between", ["", "\n", "\r\n", "\n\n", " ", ","])
def test_documents_behind_each_other(between: str) -> None:
    assert parsed({"Records": [RECORD]}, BRIDGE, TEST_EVENT, RECORD, between=between) == [WRITTEN] * 3


def test_what_is_left_out_and_what_was_removed() -> None:
    gone = (ROW.key, True, None, None)
    for name in ("ObjectRemoved:Delete", "ObjectRemoved:DeleteMarkerCreated", "LifecycleExpiration:Delete"):
        assert parsed(notification("b", ROW, name)) == [gone]
    assert parsed(bridge_event("b", ROW, "Object Deleted")) == [gone]
    for name in ("ObjectTagging:Put", "ObjectRestore:Completed", "Replication:OperationMissedThreshold"):
        assert parsed(notification("b", ROW, name)) == []
    assert parsed(bridge_event("b", ROW, "Object Tags Added"), TEST_EVENT, {"Records": []}) == []


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "no JSON"),
        ("\x00\x01", "no JSON"),
        ("17", "int where an event"),
        ('"text"', "str where an event"),
        ("{}", "no event of a bucket"),
        ('{"Records": [{"eventName": "ObjectCreated:Put"}]}', "KeyError: 's3'"),
        ('{"Records": [{"eventName": 3}]}', "no event of a bucket"),
        ('{"detail": [], "detail-type": "Object Created"}', "no event of a bucket"),
        ('{"body": "no json"}', "a message that is no JSON"),
        (json.dumps({"Records": [notification("b", ROW._replace(size="many"))]}), "no event"),
        (json.dumps(RECORD).replace("raw/", "%ff"), "UnicodeDecodeError"),
        (json.dumps(RECORD).replace("2026-01-01T", "yesterday "), "ValueError"),
        (json.dumps({"body": json.dumps({"body": "{}"})}), "no event of a bucket"),
        ("[" * 100_000, "no JSON"),
    ],
)  # fmt: skip
def test_what_is_no_event_is_named_and_the_next_line_is_read(text: str, why: str) -> None:
    data = f"{json.dumps(BRIDGE)}\n{text}\n{json.dumps(RECORD)}".encode()
    _, bad, *rest = events_in(data)
    assert isinstance(bad, BadEvent) and bad.place == "line 2" and why in bad.why
    assert len(bad.why) < 500 and [one.key for one in rest if isinstance(one, Event)] == [ROW.key]


def test_wrappers_without_end() -> None:
    document: Any = RECORD
    for _ in range(9):
        document = {"body": document}
    [bad] = events_in(json.dumps(document).encode())
    assert isinstance(bad, BadEvent) and "wrappers" in bad.why


def test_the_last_event_of_a_key_counts() -> None:
    def event(sequencer: str, removed: bool, second: int = 0) -> Event:
        when = datetime(2026, 1, 1, second=second, tzinfo=UTC)
        return Event("b", "k", removed, 1, "e", when, sequencer)

    first, second = event("0055AED6DCD90281E5", False), event("0055AED6DCD90281E6", True)
    assert latest([first, second]) == latest([second, first]) == [second]
    short = event("FF", True, second=9)
    assert latest([short, first]) == latest([first, short]) == [short], "by time where lengths differ"
    assert latest([first, first]) == [first]


class Events(Bucket):
    """A bucket with objects that hold events of it."""

    def take(self, raw: str = "raw", inventory: str | None = None) -> None:
        self.inventory = inventory
        more = f'inventory = "{inventory}"\n' if inventory else ""
        text = f'[web]\nraw = "s3://{self.name}/{raw}"\nevents = "s3://{self.name}/events/"\n{more}'
        Path(self.raw).write_text(text)

    def row(self, name: str, body: bytes = b"x") -> Row:
        """Write an object; as events have it."""
        answer = self.client.put_object(Bucket=self.name, Key=f"raw/{name}", Body=body)
        return Row(f"raw/{name}", len(body), answer["ETag"].strip('"'))

    def put_events(self, key: str, *documents: Any, data: bytes | None = None) -> None:
        """Write an object with events."""
        body = data if data is not None else "".join(json.dumps(one) for one in documents).encode()
        self.client.put_object(Bucket=self.name, Key=f"events/{key}", Body=body)

    def put_announced(self, key: str, *names: str) -> None:
        """Write objects, and one with their events."""
        self.put_events(key, *(notification(self.name, self.row(name)) for name in names))


@pytest.fixture
def bucket(s3_server: Any, tmp_path: Path) -> Events:
    """One that is looked through by an inventory that has nothing: what is found, events have announced."""
    events = Events(s3_server.url, tmp_path)
    events.take(inventory=publish(events.client, events.name, []))
    return events


def test_what_events_announce_is_found_in_the_next_step(bucket: Events, storage: Storage) -> None:
    rows = [bucket.row(name, png(seed)) for seed, name in enumerate(("a b+.png", "c.png", "d.png", "e.txt"))]
    bucket.client.put_object(Bucket=bucket.name, Key="beside/x.png", Body=b"x")
    beside = [notification(bucket.name, Row("beside/x.png")), notification("another", Row("raw/y.png"))]
    bucket.put_events(
        "2026/01/01/00/f-1.gz", data=gzip.compress(json.dumps(bridge_event(bucket.name, rows[0])).encode())
    )
    bucket.put_events(
        "2026/01/01/01/f-2", *(notification(bucket.name, row) for row in rows[1:]), *beside, TEST_EVENT
    )
    bucket.step(storage)
    assert found(storage) == ["a b+.png", "c.png", "d.png"]
    frame = pl.concat(read_shard(storage, name) for name in shard_names(storage, "images"))
    assert dict(frame.select("path", "etag").iter_rows()) == {
        f"web://{one.key[4:]}": one.etag for one in rows[:3]
    }
    names = shard_names(storage, "images")
    read = [ingest_images(storage, bucket.raw, name, CONFIG, fs_options=bucket.options) for name in names]
    assert pl.concat(read)["error"].null_count() == 3

    bucket.put_announced("2026/01/01/00/before", "b.png")
    bucket.put_announced("zzz", "z.png", "c.png")
    bucket.step(storage)
    assert found(storage) == ["a b+.png", "b.png", "c.png", "c.png", "d.png", "z.png"], (
        "c.png has other bytes"
    )
    Path(bucket.raw).write_text(f'[web]\nraw = "s3://{bucket.name}/raw"\n')
    assign_image_shards(storage, bucket.raw, CONFIG, bucket.options)
    assert len(found(storage)) == 6, "listing finds nothing new"


def test_duplicates_and_events_out_of_order(bucket: Events, storage: Storage) -> None:
    old, new = bucket.row("a.png", b"old"), bucket.row("a.png", b"new!")
    gone = bucket.row("b.png")
    bucket.client.delete_object(Bucket=bucket.name, Key="raw/b.png")
    bucket.put_events(
        "1",
        notification(bucket.name, new, sequencer="0A02"),
        notification(bucket.name, old, sequencer="0A01"),
    )
    bucket.put_events("2", notification(bucket.name, gone, "ObjectRemoved:Delete", sequencer="0B02"))
    bucket.put_events(
        "3",
        notification(bucket.name, gone, sequencer="0B01"),
        notification(bucket.name, new, sequencer="0A02"),
    )
    for _ in range(3):
        bucket.step(storage)
    assert found(storage) == ["a.png"]
    assert read_shard(storage, "images-00000")["bytes"].to_list() == [4]


def test_events_without_size_or_tag(bucket: Events, storage: Storage) -> None:
    row = bucket.row("a.png", png(1))
    for name, one in (
        ("1", row._replace(size=None)),
        ("2", row._replace(etag=None)),
        ("3", Row("raw/no.png", None)),
    ):
        bucket.put_events(name, notification(bucket.name, one))
    bucket.step(storage)
    assert found(storage) == ["a.png"]
    frame = read_shard(storage, "images-00000")
    assert (frame["etag"][0], frame["bytes"][0]) == (row.etag, row.size)


def test_what_is_no_event_is_quarantined_once(bucket: Events, storage: Storage) -> None:
    line = json.dumps(notification(bucket.name, bucket.row("a.png", png(1)))).encode()
    bucket.put_events("1", data=b"no json\n" + line + b"\n{}\n" + line)
    bucket.put_events("2", data=gzip.compress(line)[:-9])
    bucket.put_events("3", data=b"")
    for _ in range(3):
        bucket.step(storage)
    names = shard_names(storage, "images")
    frames = [ingest_images(storage, bucket.raw, name, CONFIG, fs_options=bucket.options) for name in names]
    rows = pl.concat(frames).sort("paths").select("paths", "reason").rows()
    place = f"s3://{bucket.name}/events"
    assert {paths[0]: reason for paths, reason in rows} == {
        "web://a.png": None,
        f"{place}/1#line 1": "bad_event",
        f"{place}/1#line 3": "bad_event",
        f"{place}/2": "bad_event",
    }
    assert len(rows) == 4 and "bad_event" in REASONS


def test_an_object_is_read_once(
    bucket: Events, storage: Storage, s3_server: Any, fault_proxy: Callable[..., FaultProxy],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(event_objects, "MARGIN", timedelta(0))
    proxy = fault_proxy(s3_server.url)
    bucket.options = {"endpoint_url": proxy.url}
    bucket.put_announced("1", "a.png")
    bucket.step(storage)
    later = datetime.now(UTC) + timedelta(seconds=2)
    cursor = storage.read_json("listed/sweep.json")
    cursor["events"]["web"]["since"] = later.isoformat()
    storage.write_json("listed/sweep.json", cursor)
    proxy.forget()
    bucket.step(storage)
    assert proxy.count("GET", "/events/1") == 0 and proxy.count("GET", "prefix=events") == 1


def test_another_input_reads_all_events_again(bucket: Events, storage: Storage) -> None:
    bucket.put_announced("1", "t/1.tar", "t/.2.tar", "t/3.png")
    bucket.step(storage)
    assert found(storage) == ["t/3.png"]
    state = storage.read_json("listed/sweep.json")
    now = datetime.now(UTC)
    assert abs(datetime.fromisoformat(state["events"]["web"]["since"]) - now) < timedelta(minutes=5)
    state["events"]["web"]["since"] = (now + timedelta(days=1)).isoformat()
    storage.write_json("listed/sweep.json", state)
    bucket.take("raw/t/*.tar", bucket.inventory)
    bucket.step(storage)
    assert found(storage) == ["1.tar", "t/3.png"]
    assert read_shard(storage, "images-00001")["kind"].to_list() == ["tar"]


@pytest.mark.parametrize("hours", [-30, 30])
def test_the_time_of_the_store_counts(
    bucket: Events, storage: Storage, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    """However wrong this machine's clock is, where a store does not mind."""

    class Wrong(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.now(tz) + timedelta(hours=hours)

    for module in (sweep_module, event_objects):
        monkeypatch.setattr(module, "datetime", Wrong)
    for number in range(3):
        bucket.put_announced(f"{9 - number}", f"{number}.png")
        bucket.step(storage)
        assert len(found(storage)) == number + 1


def test_a_pass_over_many_objects_takes_several_steps(
    bucket: Events, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_objects, "KEYS", 2)
    for number in range(5):
        bucket.put_announced(f"{number}", f"{number}.png")
    counts = []
    for number in range(3):
        bucket.step(storage)
        counts.append(len(found(storage)))
        bucket.put_announced(f"0{number}", f"late-{number}.png")
    assert counts == [2, 4, 5]
    for _ in range(5):
        bucket.step(storage)
    assert len(found(storage)) == 8, "also those before the place at which the pass stood"
    monkeypatch.setattr(event_objects, "_READ_AT_ONCE", 1)
    bucket.put_announced("9", "9.png", "10.png")
    for _ in range(20):
        bucket.step(storage)
    assert len(found(storage)) == 10, "large objects one by one"


def test_a_run_reads_events_beside_an_inventory(bucket: Events, storage: Storage) -> None:
    bucket.put_announced("1", "a.png")
    assert assign_image_shards(storage, bucket.raw, CONFIG, bucket.options) == ["images-00000"]
    assert found(storage) == ["a.png"]
    assert assign_image_shards(storage, bucket.raw, CONFIG, bucket.options) == ["images-00000"]


def test_what_no_event_announces_is_found_by_the_sweep(bucket: Events, storage: Storage) -> None:
    bucket.take()
    bucket.put("silent.png")
    bucket.put_announced("1", "a.png")
    sweep_step(storage, bucket.raw, CONFIG, bucket.options)
    assert found(storage) == ["a.png", "silent.png"]


@pytest.mark.parametrize("path", ["/events/2", "prefix=events"])
def test_a_store_that_fails_loses_no_event(
    bucket: Events, storage: Storage, s3_server: Any, fault_proxy: Callable[..., FaultProxy],
    monkeypatch: pytest.MonkeyPatch, path: str,
) -> None:  # fmt: skip
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    proxy = fault_proxy(s3_server.url)
    for number in range(3):
        bucket.put_announced(f"{number}", f"{number}.png")
    for fault in (SLOW_DOWN, Cut(after=0)):
        proxy.add(fault, path=path)
        with pytest.raises(StoreUnavailableError):
            bucket.step(storage, {"endpoint_url": proxy.url})
        proxy.clear()
        assert found(storage) == []
    bucket.step(storage, {"endpoint_url": proxy.url})
    assert found(storage) == ["0.png", "1.png", "2.png"]


def test_an_object_of_something_else_is_a_few_rows(bucket: Events, storage: Storage) -> None:
    bucket.put_events("1", data=b"not this\n" * 5000)
    bucket.step(storage)
    frame = pl.concat(read_shard(storage, name) for name in shard_names(storage, "images"))
    assert frame.height == 21 and "4980 more" in frame.sort("path")["problem"][-1]


def test_too_much_in_one_object(bucket: Events, storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_objects, "MOST", 1000)
    bucket.put_events("1", data=gzip.compress(b" " * 5000))
    bucket.step(storage)
    assert "more than 1000 bytes of events" in read_shard(storage, "images-00000")["problem"][0]
