"""Bucket events as JSON: what happened to which object, in every form in which they are handed on.

Belongs here: documents and records. Does not belong here: where the documents lie (``event_objects``), which
objects are input (``listing``).

Formats: Amazon S3 User Guide, "Event message structure" (keys URL-encoded as in a form) and "EventBridge
event message structure" (keys plain). Ceph and MinIO send the first. SNS, SQS and Lambda wrap either;
Firehose writes one behind the other, by default with nothing between them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import unquote_plus

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NESTED = 6
"""Wrappers around each other, at most."""
_CREATED = re.compile(r"(s3:)?ObjectCreated:|Object Created$")
_REMOVED = re.compile(
    r"(s3:)?(ObjectRemoved|LifecycleExpiration|ObjectLifecycle:Expiration):|Object Deleted$"
)
_SHOWN = 80
_DECODER = json.JSONDecoder()
_BLANK = re.compile(r"[\s,\x1e]*")


class Event(NamedTuple):
    """An object that was written or removed."""

    bucket: str
    key: str
    removed: bool
    size: int | None
    etag: str | None
    """Tag of the content without quotes."""
    when: datetime
    sequencer: str
    """Orders events of one key; empty where the event has none."""

    def is_after(self, other: Event) -> bool:
        """Whether it happened later, to the same key, or cannot be told apart.

        Sequencers of one length are ordered as texts; to others the guide has said to add zeros on the left
        and on the right, so those are ordered by time.
        """
        if self.sequencer and len(self.sequencer) == len(other.sequencer):
            return self.sequencer >= other.sequencer
        return self.when >= other.when


class BadEvent(NamedTuple):
    """What is no event of a bucket."""

    place: str
    """``line 3``: where it stands in its text."""
    why: str


def events_in(data: bytes) -> Iterator[Event | BadEvent]:
    """All events of a text: one document, a document a line, or documents with nothing between them.

    Test messages and events of other kinds (tags, restores, replication) are left out. After what is no JSON,
    reading goes on in the next line.
    """
    text, at = data.decode("utf-8-sig", "replace"), 0
    line = 1
    while (start := _BLANK.match(text, at).end()) < len(text):  # type: ignore[union-attr]
        line, at = line + text.count("\n", at, start), start
        try:
            document, end = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            end = text.find("\n", at) + 1 or len(text)
            what = text[at : min(end, at + _SHOWN)].strip()
            yield BadEvent(f"line {line}", f"no JSON ({str(error)[:_SHOWN]}): {what!r}")
        else:
            for found in _of_document(document, _NESTED):
                yield BadEvent(f"line {line}", found) if isinstance(found, str) else found
        line, at = line + text.count("\n", at, end), end


def latest(events: Iterable[Event]) -> list[Event]:
    """Of each key the event that happened last, in the order of keys."""
    last: dict[str, Event] = {}
    for event in events:
        known = last.get(event.key)
        if known is None or event.is_after(known):
            last[event.key] = event
    return [last[key] for key in sorted(last)]


def _of_document(document: Any, depth: int) -> Iterator[Event | str]:
    """Events, and why parts are none."""
    if isinstance(document, list):
        for one in document:
            yield from _of_document(one, depth)
    elif not isinstance(document, dict):
        yield f"{type(document).__name__} where an event was expected: {document!r:.{_SHOWN}}"
    elif (inner := _wrapped(document)) is not None:
        yield from _unwrapped(inner, depth)
    elif "Records" in document:
        yield from _of_document(document["Records"] or [], depth)
    elif document.get("Event") != "s3:TestEvent":
        yield from _event(document)


def _wrapped(document: dict[str, Any]) -> Any:
    """The message inside of what SNS, SQS or Lambda put around it."""
    if isinstance(document.get("Sns"), dict):
        document = document["Sns"]
    if "Message" in document and ("TopicArn" in document or "MessageId" in document):
        return document["Message"]
    for name in ("body", "Body"):
        if name in document:
            return document[name]
    return None


def _unwrapped(inner: Any, depth: int) -> Iterator[Event | str]:
    if depth == 0:
        yield f"more than {_NESTED} wrappers around each other"
        return
    try:
        document = json.loads(inner) if isinstance(inner, str) else inner
    except (ValueError, RecursionError) as error:
        yield f"a message that is no JSON ({str(error)[:_SHOWN]}): {inner[:_SHOWN]!r}"
        return
    yield from _of_document(document, depth - 1)


def _event(record: dict[str, Any]) -> Iterator[Event | str]:
    try:
        found = _of_bridge(record) if "detail" in record else _of_notification(record)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        yield f"no event of a bucket ({type(error).__name__}: {str(error)[:_SHOWN]}): {record!r:.200}"
        return
    if found is not None:
        yield found


def _of_notification(record: dict[str, Any]) -> Event | None:
    name = record["eventName"]
    if not (_CREATED.match(name) or _REMOVED.match(name)):
        return None
    one = record["s3"]["object"]
    key = unquote_plus(one["key"], errors="strict")
    return _made(name, record["s3"]["bucket"]["name"], key, one, one.get("eTag"), record.get("eventTime"))


def _of_bridge(record: dict[str, Any]) -> Event | None:
    name = record["detail-type"]
    if not (_CREATED.match(name) or _REMOVED.match(name)):
        return None
    detail = record["detail"]
    one = detail["object"]
    return _made(name, detail["bucket"]["name"], one["key"], one, one.get("etag"), record.get("time"))


def _made(name: str, bucket: Any, key: Any, one: dict[str, Any], etag: Any, when: Any) -> Event:
    if not (isinstance(bucket, str) and isinstance(key, str) and bucket and key):
        raise ValueError("bucket and key must be texts")
    key.encode()
    size = one.get("size")
    moment = datetime.fromisoformat(when) if when else EPOCH
    return Event(
        bucket=bucket,
        key=key,
        removed=bool(_REMOVED.match(name)),
        size=None if size is None else int(size),
        etag=(etag or "").strip('"') or None,
        when=moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC),
        sequencer=str(one.get("sequencer") or "").upper(),
    )
