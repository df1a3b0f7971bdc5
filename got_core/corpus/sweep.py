"""Looking through all inputs for what no shard lists yet: at once, or in steps that go on from a cursor.

Belongs here: the order of inputs and pages, and the cursor in the storage. Does not belong here: what a page
holds (``listing``), what is listed already (``listed``), cutting shards (``shards``).

A step may end anywhere, also by a kill: what it wrote is found again by the next one, which begins at the
last cursor that was kept.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import asdict, dataclass, field

from got_core.corpus.appending import ImageShards, note_passed_over
from got_core.corpus.config import IngestConfig
from got_core.corpus.inputs import Input, inputs_of
from got_core.corpus.listing import list_pages, lists_from_a_key
from got_core.corpus.sieve import Sieve
from got_core.storage import Storage

SECONDS = 20.0
_CURSOR = "listed/sweep.json"


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


def sweep_all(storage: Storage, raw_url: str, config: IngestConfig, fs_options: dict | None = None) -> None:
    """One sweep from the first key to the last; see ``shards.assign_image_shards``."""
    shards, sieve = ImageShards(storage, config), Counter[str]()
    shards.catch_up()
    for one in inputs_of(raw_url, fs_options):
        own = Sieve(config)
        for page in list_pages(one, config, own):
            shards.take(page.found)
        shards.flush()
        sieve.update(own.counts)
    note_passed_over(storage, sieve)
    shards.tidy()


def sweep_step(
    storage: Storage,
    raw_url: str,
    config: IngestConfig,
    fs_options: dict | None = None,
    seconds: float = SECONDS,
) -> list[str]:
    """As far as a sweep gets in about so many seconds, from where the last step ended.

    First it looks behind the last key of each prefix of S3: what is appended there is found in the next step.
    All else is found within one sweep, after whose end the next step begins a new one. Memory holds a page of
    keys and a part of the index, whatever the prefix holds. Folders, archives and tables are looked through
    as a whole, each in one step.

    Returns:
        The names of all image shards, sorted.

    Raises as ``shards.assign_image_shards``; the cursor then stays where it was.
    """
    until = time.monotonic() + seconds
    shards = ImageShards(storage, config)
    if shards.catch_up(until):
        inputs = inputs_of(raw_url, fs_options)
        cursor = _read_cursor(storage, raw_url, len(inputs))
        _look_behind(shards, inputs, cursor, config, until - seconds / 2)
        if _go_on(shards, inputs, cursor, config, until):
            note_passed_over(storage, cursor.passed_over)
            shards.tidy()
            cursor = _Cursor(raw_url, furthest=cursor.furthest)
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
        one, sieve = inputs[cursor.number], Sieve(config)
        for page in list_pages(one, config, sieve, cursor.after):
            shards.take(page.found)
            cursor.after = page.last or cursor.after
            cursor.furthest[one.name] = max(cursor.after, cursor.furthest.get(one.name, ""))
            if page.more and time.monotonic() > until:
                break
        shards.flush()
        cursor.passed_over = dict(Counter(cursor.passed_over) + sieve.counts)
        if page.more:
            return False
        cursor.number, cursor.after = cursor.number + 1, ""
        if time.monotonic() > until:
            break
    return cursor.number >= len(inputs)


def _read_cursor(storage: Storage, raw_url: str, inputs: int) -> _Cursor:
    """The cursor kept, a new one where there is none for these inputs."""
    try:
        kept = _Cursor(**storage.read_json(_CURSOR))
    except (FileNotFoundError, ValueError, TypeError):  # a sweep from the start costs time only
        return _Cursor(raw_url)
    return kept if kept.raw_url == raw_url and kept.number < inputs else _Cursor(raw_url)
