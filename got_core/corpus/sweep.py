"""Looking through all inputs for what no shard lists yet: at once, or in steps that go on from a cursor.

Belongs here: the order of inputs and pages, and the cursor in the storage. Does not belong here: what a page
holds (``listing``), what is listed already (``listed``), cutting shards (``shards``).

A step may end anywhere, also by a kill: what it wrote is found again by the next one, which begins at the
last cursor that was kept.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from datetime import datetime

from got_core.corpus.appending import ImageShards, note_passed_over
from got_core.corpus.config import IngestConfig
from got_core.corpus.event_objects import announced
from got_core.corpus.inputs import Input, inputs_of
from got_core.corpus.inventories import NoInventoryError, inventory_of
from got_core.corpus.listing import announced_entries, list_pages, lists_from_a_key
from got_core.corpus.reader import EPOCH
from got_core.corpus.sieve import Sieve
from got_core.storage import Storage

SECONDS = 20.0
_CURSOR = "listed/sweep.json"

_log = logging.getLogger(__name__)


@dataclass
class _Cursor:
    """Where a sweep stands."""

    raw_url: str
    number: int = 0
    """Of the inputs, the one that is looked through."""
    after: str = ""
    """The last key of it that was looked at."""
    furthest: dict[str, str] = field(default_factory=dict)
    """The last key of each input that any sweep looked at, by the input's name."""
    passed_over: dict[str, int] = field(default_factory=dict)
    """What this sweep has passed over so far, by kind."""
    inventories: dict[str, dict] = field(default_factory=dict)
    """How far inventories were read by any sweep (`place`), and what was passed over of them (`passed_over`),
    by the input's name."""
    events: dict[str, dict] = field(default_factory=dict)
    """Of each input with events: what is looked for (`kind`), the place of the pass (`after`), the store's
    time when it began (`began`), and from what time on objects are read (`since`), ISO."""
    shards: int = 0
    """Of images, when this was written: with fewer, lists were deleted, and all is looked at again."""


def sweep_all(storage: Storage, raw_url: str, config: IngestConfig, fs_options: dict | None = None) -> None:
    """One sweep from the first key to the last; see ``shards.assign_image_shards``.

    Of an inventory what no sweep has read yet, with all events since: both stay in the cursor.
    """
    inputs = inputs_of(raw_url, fs_options)
    shards = ImageShards(storage, raw_url, config, fs_options)
    shards.catch_up()
    kept = _read_cursor(storage, raw_url, len(inputs), shards)
    cursor = _Cursor(raw_url, inventories=kept.inventories, events=kept.events)
    for one in inputs:
        cursor.after = ""
        _look_through(shards, one, cursor, config)
        if one.inventory is not None:  # without one, all was listed just now
            _read_events(shards, one, cursor, config)
    note_passed_over(storage, cursor.passed_over)
    shards.tidy()
    if any(one.inventory is not None for one in inputs):
        kept.inventories, kept.events, kept.shards = cursor.inventories, cursor.events, len(shards.names)
        storage.write_json(_CURSOR, asdict(kept))


def sweep_step(
    storage: Storage,
    raw_url: str,
    config: IngestConfig,
    fs_options: dict | None = None,
    seconds: float = SECONDS,
) -> list[str]:
    """As far as a sweep gets in about so many seconds, from where the last step ended.

    First it reads events of inputs that have them, and looks behind the last key of each prefix of S3: what
    is announced, or appended there, is found in the next step. All else is found within one sweep, after
    whose end the next step begins a new one. Of an input with an inventory, a sweep reads what is new of
    that. Memory holds a page of keys and a part of the index, whatever the prefix holds. Folders, archives
    and tables without an inventory are looked through as a whole, each in one step.

    Returns:
        The names of all image shards, sorted.

    Raises as ``shards.assign_image_shards``; the cursor then stays where it was. An input whose first
    inventory is still to come holds up no other: it is an error only where there is no shard at all.
    """
    until = time.monotonic() + seconds
    shards = ImageShards(storage, raw_url, config, fs_options)
    if shards.catch_up(until):
        inputs = inputs_of(raw_url, fs_options)
        cursor = _read_cursor(storage, raw_url, len(inputs), shards)
        for one in inputs:
            _read_events(shards, one, cursor, config, until - seconds / 2)
        _look_behind(shards, inputs, cursor, config, until - seconds / 2)
        if _go_on(shards, inputs, cursor, config, until):
            note_passed_over(storage, cursor.passed_over)
            shards.tidy()
            cursor.number, cursor.after, cursor.passed_over = 0, "", {}
        cursor.shards = len(shards.names)
        storage.write_json(_CURSOR, asdict(cursor))
    return shards.names


def _look_behind(
    shards: ImageShards, inputs: list[Input], cursor: _Cursor, config: IngestConfig, until: float
) -> None:
    """Keys behind the last one of each input."""
    for number, one in enumerate(inputs):
        after = cursor.furthest.get(one.name, "")
        ahead = number == cursor.number and cursor.after >= after  # the sweep itself comes there next
        if not after or ahead or not lists_from_a_key(one):
            continue
        for page in list_pages(one, config, Sieve(config), after):
            shards.take(page.found)
            cursor.furthest[one.name] = page.last or cursor.furthest[one.name]
            if time.monotonic() > until:
                break
        shards.flush()


def _go_on(
    shards: ImageShards, inputs: list[Input], cursor: _Cursor, config: IngestConfig, until: float
) -> bool:
    """Move the cursor up to the time; whether it reached the end of the last input."""
    while cursor.number < len(inputs):
        try:
            if _look_through(shards, inputs[cursor.number], cursor, config, until):
                return False
        except NoInventoryError as error:
            if not shards.names and cursor.number == len(inputs) - 1:
                raise
            _log.warning("the input [%s] is passed over: %s", inputs[cursor.number].name, error)
        cursor.number, cursor.after = cursor.number + 1, ""
        if time.monotonic() > until:
            break
    return cursor.number >= len(inputs)


def _look_through(
    shards: ImageShards, one: Input, cursor: _Cursor, config: IngestConfig, until: float = float("inf")
) -> bool:
    """An input from the cursor on, up to the time; whether there is more of it."""
    if one.inventory is not None:
        return _look_through_inventory(shards, one, cursor, config, until)
    sieve = Sieve(config)
    for page in list_pages(one, config, sieve, cursor.after):
        shards.take(page.found)
        cursor.after = page.last or cursor.after
        cursor.furthest[one.name] = max(cursor.after, cursor.furthest.get(one.name, ""))
        if page.more and time.monotonic() > until:
            break
    shards.flush()
    cursor.passed_over = dict(Counter(cursor.passed_over) + sieve.counts)
    return page.more


def _look_through_inventory(
    shards: ImageShards, one: Input, cursor: _Cursor, config: IngestConfig, until: float
) -> bool:
    """As `_look_through`, from where reading of its inventories stands."""
    kept = cursor.inventories.get(one.name, {"place": "", "passed_over": {}})
    sieve, least, first = Sieve(config), max(0.0, until - time.monotonic()) / 2, True
    for page in list_pages(one, config, sieve, kept["place"]):
        if first:  # fetching a file takes time, whatever is read of it
            until, first = max(until, time.monotonic() + least), False
        shards.take(page.found)
        if page.more and time.monotonic() > until:
            break
    shards.flush()
    before = kept["passed_over"] if inventory_of(kept["place"]) == inventory_of(page.last) else {}
    counts = dict(Counter(before) + sieve.counts)
    cursor.inventories[one.name] = {"place": page.last, "passed_over": counts}
    if not page.more:
        cursor.passed_over = dict(Counter(cursor.passed_over) + Counter(counts))
    return page.more


def _read_events(
    shards: ImageShards, one: Input, cursor: _Cursor, config: IngestConfig, until: float = float("inf")
) -> None:
    """Read an input's events from where the last pass over them stands, up to its end or the time."""
    if one.events is None:
        return
    kind = repr((one.events, one.base, one.pattern, config.pictures, config.ignore))
    state = cursor.events.get(one.name, {})
    if state.get("kind") != kind:
        state = {"kind": kind, "after": "", "since": EPOCH.isoformat()}
    for part in announced(one, datetime.fromisoformat(state["since"]), state["after"]):
        if not state["after"]:
            state["began"] = part.listed.isoformat()
        shards.take(announced_entries(one, part, Sieve(config), config))
        state["after"] = part.after
        if time.monotonic() > until:
            break
    shards.flush()
    if not part.more:
        state["after"], state["since"] = "", state["began"]
    cursor.events[one.name] = state


def _read_cursor(storage: Storage, raw_url: str, inputs: int, shards: ImageShards) -> _Cursor:
    """The cursor kept, a new one where there is none for these inputs and shards."""
    try:
        kept = _Cursor(**storage.read_json(_CURSOR))
    except (FileNotFoundError, ValueError, TypeError):  # a sweep from the start costs time only
        return _Cursor(raw_url)
    fits = kept.raw_url == raw_url and kept.number < max(inputs, 1) and kept.shards <= len(shards.names)
    return kept if fits else _Cursor(raw_url)
