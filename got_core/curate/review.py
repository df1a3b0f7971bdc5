"""People's verdicts on chains: a queue to review, the verdicts as a table, and what they change.

    accept    the row is trained on although a rule rejects it (not where there is nothing to train on)
    reject    it is not trained on
    correct   its chain is replaced by a corrected one, which the rules judge anew

Verdicts come as a JSON file, as the gallery's page saves it:

    {"reviewer": "ada", "verdicts": [{"chain_id": "...", "kind": "t2i", "verdict": "correct", "before": "...",
     "chain": "...", "note": "", "time": "2025-01-01T12:00:00Z"}]}

    got data review verdicts.json

Belongs here: reading, checking, storing and applying verdicts. Not here: rules (`rules`), pages (`gallery`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, NamedTuple

import polars as pl

from got_core.chain.edits import read_edit_chain
from got_core.chain.grammar import Chain, ChainError, parse
from got_core.corpus.schemas import frame_of, polars_schema
from got_core.curate.review_schemas import FOLDER, QUEUE, VERDICTS
from got_core.exchange.importer import text_without_boxes
from got_core.filesystems import read_whole
from got_core.frame_hash import content_hash
from got_core.storage import Storage

ACTIONS = ("accept", "reject", "correct")
BINDING = ("failed_annotation", "taken_down", "unsafe_content", "contaminated")
"""Rules that no reviewer overrules: there is no chain, or the image must not be trained on."""
RULE = "reviewer"
"""Name under which a selection lists what a reviewer rejected."""
MAX_BYTES = 64 << 20
_READERS = 16

Select = Callable[..., pl.DataFrame]


class VerdictError(ValueError):
    """A verdict that is not used."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


def review_queue(
    selection: pl.DataFrame, chains: pl.DataFrame, shard: str, count: int, seed: int = 0
) -> pl.DataFrame:
    """QUEUE: rows of a shard drawn at random, always the same for a seed; none that has no chain."""
    kind, prompt = ("edit", "instruction") if "pair_id" in chains.columns else ("t2i", "prompt")
    known = chains.filter(pl.col("chain").is_not_null()).unique("chain_id", keep="first", maintain_order=True)
    rows = selection.join(
        known.select("chain_id", "chain", pl.col(prompt).alias("prompt")), on="chain_id", how="inner"
    ).with_columns(kind=pl.lit(kind), shard=pl.lit(shard))
    drawn = sorted(rows["chain_id"], key=lambda one: hashlib.sha256(f"{seed}:{one}".encode()).digest())[
        :count
    ]
    order = pl.DataFrame({"chain_id": drawn}, schema={"chain_id": pl.String})
    return order.join(rows, on="chain_id", how="left", maintain_order="left").select(list(QUEUE))


def read_verdict_file(data: bytes, now: datetime | None = None) -> pl.DataFrame:
    """VERDICTS of a JSON file; a verdict that cannot be used keeps its row with the reason.

    Raises ValueError where the file as a whole is none.
    """
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the verdicts are not JSON: {str(error)[:200]}") from error
    entries = document.get("verdicts") if isinstance(document, dict) else None
    if not isinstance(document, dict) or not isinstance(entries, list):
        raise ValueError('verdicts are {"reviewer": name, "verdicts": [...]}; see the review queue\'s page')
    reviewer = document.get("reviewer")
    if not isinstance(reviewer, str) or not reviewer.strip():
        raise ValueError("the verdicts have no reviewer: give a name")
    moment = now or datetime.now(UTC)
    rows = [_verdict_row(entry, _storable(reviewer.strip()), moment) for entry in entries]
    return frame_of(rows, VERDICTS)


def record_verdicts(storage: Storage, verdicts: pl.DataFrame) -> str:
    """Keep VERDICTS as a table of their own, named by content: the same file twice is one table. Its name."""
    name = f"{FOLDER}/{content_hash(verdicts)[:32]}"
    if not storage.exists(f"{name}.parquet"):
        storage.write_table(name, verdicts)
    return name


def load_verdicts(storage: Storage) -> pl.DataFrame:
    """All VERDICTS that were recorded, by time; those that are not used are among them."""
    names = [name for name in storage.list(f"{FOLDER}/") if name.endswith(".parquet")]
    with ThreadPoolExecutor(_READERS) as pool:
        tables = pool.map(storage.read_table, (name.removesuffix(".parquet") for name in names))
        frame = pl.concat([pl.DataFrame(schema=polars_schema(VERDICTS)), *tables])
    return frame.sort("time", "chain_id", "reviewer", "verdict", nulls_last=False)


def latest(verdicts: pl.DataFrame) -> pl.DataFrame:
    """The verdict that counts for each chain: the last usable one."""
    good = verdicts.filter(pl.col("error").is_null())
    return good.sort("time", maintain_order=True).unique("chain_id", keep="last", maintain_order=True)


def corrected(chains: pl.DataFrame, verdicts: pl.DataFrame) -> pl.DataFrame:
    """Chains (T2I_CHAINS or EDIT_CHAINS) with those that a reviewer corrected, and what follows from them.

    A correction of a chain that has changed since it was reviewed is not applied. Ids and order stay.
    """
    last = latest(verdicts.filter(pl.col("verdict") == "correct"))
    fixes = {row["chain_id"]: row for row in last.iter_rows(named=True)}
    if not fixes or not chains["chain_id"].is_in(pl.Series([*fixes], dtype=pl.String).implode()).any():
        return chains
    rows = [_corrected_row(row, fixes.get(row["chain_id"])) for row in chains.iter_rows(named=True)]
    return pl.DataFrame(rows, schema=chains.schema, orient="row")


def apply_verdicts(
    selection: pl.DataFrame, verdicts: pl.DataFrame, binding: Sequence[str] = BINDING
) -> pl.DataFrame:
    """SELECTION after the reviewers: rejected rows name the rule `reviewer`, accepted ones lose their rule.

    What a `binding` rule rejected stays rejected. The rules must have been applied to chains as
    `corrected` gives them.
    """
    last = latest(verdicts).filter(pl.col("verdict") != "correct")
    explanation = pl.concat_str("reviewer", pl.lit(": "), pl.col("note").fill_null("no reason given"))
    joined = selection.join(
        last.select("chain_id", "verdict", explanation.alias("explanation")),
        on="chain_id",
        how="left",
        maintain_order="left",
    )
    free = ~pl.col("rule").is_in(list(binding)).fill_null(False)
    rejects = ((pl.col("verdict") == "reject") & free).fill_null(False)
    accepts = ((pl.col("verdict") == "accept") & free).fill_null(False)
    return joined.with_columns(
        accepted=pl.when(rejects).then(False).when(accepts).then(True).otherwise("accepted"),
        rule=pl.when(rejects).then(pl.lit(RULE)).when(accepts).then(None).otherwise("rule"),
        detail=pl.when(rejects).then("explanation").when(accepts).then(None).otherwise("detail"),
    ).select(selection.columns)


def select_reviewed(
    select: Select,
    chains: pl.DataFrame,
    ingested: pl.DataFrame,
    *rest: Any,
    verdicts: pl.DataFrame,
    **options: Any,
) -> pl.DataFrame:
    """A selection with the reviewers' verdicts: the rules judge the corrected chains, then are overruled.

    `select` is `select_t2i` or `select_edits`; all but `verdicts` is passed on to it.
    """
    return apply_verdicts(select(corrected(chains, verdicts), ingested, *rest, **options), verdicts)


def check_chain(text: str, kind: str) -> Chain:
    """A corrected chain. Raises VerdictError where it does not parse, places nothing, or is no edit chain."""
    try:
        chain = parse(parse(text.strip()).to_data(), "data")
        if kind == "edit":
            read_edit_chain(chain)
    except ChainError as error:
        raise VerdictError("not_a_chain", str(error)) from error
    if not chain.boxes:
        raise VerdictError("not_a_chain", "no box in the chain")
    return chain


def text_hash(text: str) -> str:
    """SHA-256 of a chain's text: tells whether it has changed since it was reviewed."""
    return hashlib.sha256(text.encode()).hexdigest()


def _verdict_row(entry: Any, reviewer: str, now: datetime) -> dict[str, Any]:
    row: dict[str, Any] = {"reviewer": reviewer, "time": now}
    try:
        if not isinstance(entry, dict):
            raise VerdictError("no_verdict", "not an object")
        row |= {name: _text(entry, name) for name in ("chain_id", "kind", "verdict", "note")}
        row["time"] = _time(entry.get("time"), now)
        if not row["chain_id"]:
            raise VerdictError("no_verdict", "no chain_id")
        if row["verdict"] not in ACTIONS:
            raise VerdictError("no_verdict", f"{row['verdict']!r} is none of {', '.join(ACTIONS)}")
        if row["kind"] not in ("t2i", "edit"):
            raise VerdictError("no_verdict", f"kind {row['kind']!r} is neither t2i nor edit")
        before = _text(entry, "before")
        row["before"] = None if before is None else text_hash(before)
        if row["verdict"] == "correct":
            row["chain"] = _text(entry, "chain")
            row["chain"] = check_chain(row["chain"] or "", row["kind"]).to_data()
    except VerdictError as error:
        row |= {"error": _storable(str(error)), "reason": error.reason}
    return {name: row.get(name) for name in VERDICTS}


def _text(entry: dict[str, Any], name: str) -> str | None:
    value = entry.get(name)
    return _storable(value) if isinstance(value, str) and value.strip() else None


def _storable(text: str) -> str:
    """Text without half surrogates, which no table holds."""
    return text.encode("utf-8", "backslashreplace").decode()


def _time(value: Any, now: datetime) -> datetime:
    """The time that an entry gives, else now; a time to come counts as now."""
    try:
        given = datetime.fromisoformat(value) if isinstance(value, str) else now
        return min(given.astimezone(UTC) if given.tzinfo else given.replace(tzinfo=UTC), now)
    except (ValueError, OverflowError):
        return now


def _corrected_row(row: dict[str, Any], fix: dict[str, Any] | None) -> dict[str, Any]:
    if fix is None or (fix["before"] is not None and fix["before"] != text_hash(row["chain"] or "")):
        return row
    chain = parse(fix["chain"], "data")
    changed = {"chain": fix["chain"], "boxes": len(chain.boxes), "error": None, "reason": None}
    if "caption" in row:
        changed["caption"] = text_without_boxes(chain)
        changed["phrases"] = [placed.phrase for placed in chain.boxes if placed.phrase]
    return row | {name: value for name, value in changed.items() if name in row}


class Recorded(NamedTuple):
    """What became of a file of verdicts."""

    table: str
    """Name of the table in the storage."""

    used: int
    unused: list[tuple[str | None, str]]
    """Chain and reason of each verdict that cannot be used."""


def record_file(storage: Storage, url: str, **fs_options: Any) -> Recorded:
    """Record the verdicts of a JSON file, a path or URL, as the review page saves it.

    Raises OSError, StoreUnavailableError, and ValueError where the file as a whole is none.
    """
    verdicts = read_verdict_file(read_whole(url, MAX_BYTES, **fs_options))
    bad = verdicts.filter(pl.col("error").is_not_null())
    unused = list(bad.select("chain_id", "error").iter_rows())
    return Recorded(record_verdicts(storage, verdicts), verdicts.height - bad.height, unused)
