"""Released records become the chain tables that curation reads, joined with the images or pairs at hand.

Belongs here: one batch of records to chains and refused records. Not here: reading files (`records`), what is
kept between batches (`parts`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import polars as pl

from got_core.annotate.rows import short_hash
from got_core.annotate.schemas import EDIT_CHAINS, T2I_CHAINS
from got_core.chain.edits import read_edit_chain
from got_core.chain.grammar import Boxed, Chain, ChainError, parse, parse_tolerant
from got_core.corpus.schemas import Columns, frame_of, polars_schema
from got_core.exchange.config import AnyMapping, ImageKey, T2IMapping
from got_core.exchange.placeholders import coordinates_of, insert_boxes
from got_core.exchange.records import Record, RecordError, record_text, value_of
from got_core.exchange.schemas import KEYS, REFUSED

REASONS: dict[str, str] = {
    "not_json": "a line that is no JSON",
    "not_an_object": "a record that is no object",
    "too_long": "a line above the limit of length",
    "no_value": "a column that a row cannot do without is empty or no text",
    "bad_text": "text that is not Unicode",
    "bad_coordinates": "coordinates that are no boxes",
    "placeholder_missing": "coordinates for a placeholder that the chain does not hold",
    "placeholder_unknown": "a placeholder without coordinates",
    "not_a_chain": "the text does not read as a chain",
    "image_missing": "no image of that name was ingested",
    "image_ambiguous": "several images answer to the name",
    "image_quarantined": "the image is there, but ingestion refused it",
    "pair_missing": "no pair of that id is in the local copy",
    "pair_ambiguous": "several pairs answer to the id",
    "pair_quarantined": "the pair is there, but ingestion refused it",
    "repeated": "a chain of that image or pair, data set and prompt was imported before",
}
"""Every reason for which an import quarantines a record, with its meaning."""

_HEX_ID = re.compile(r"[0-9a-f]{32}")
_BEFORE_BOX = re.compile(r"[ \t]+\Z")


class Imported(NamedTuple):
    """Chains (T2I_CHAINS or EDIT_CHAINS, none with an error) and REFUSED records: together all."""

    chains: pl.DataFrame
    refused: pl.DataFrame


def image_keys(raw: pl.DataFrame, image_is: ImageKey) -> pl.DataFrame:
    """KEYS of ingested images (RAW_IMAGES): what records of a data set may call each of them."""
    known = raw.filter(pl.col("image_id").is_not_null())
    if image_is != "image_id":
        known = known.with_columns(key=pl.col("paths").fill_null(pl.concat_list("path"))).explode("key")
        if image_is != "path":
            known = known.with_columns(key=pl.col("key").str.split("/").list.last())
        if image_is == "stem":
            known = known.with_columns(
                key=pl.col("key").map_elements(lambda name: PurePosixPath(name).stem, return_dtype=pl.String)
            )
    else:
        known = known.with_columns(key="image_id")
    return _keys(known.select("key", "source", "licence", item_id="image_id", fault="error"))


def pair_keys(pairs: pl.DataFrame, edit_pairs: pl.DataFrame | None = None) -> pl.DataFrame:
    """KEYS of a local copy of edit pairs (PAIRS).

    With `edit_pairs` (EDIT_PAIRS) a pair that ingestion does not have is left out, and one that it has
    refused names the fault.
    """
    known = pairs.with_columns(fault=pl.lit(None, pl.String), item_id="pair_id")
    if edit_pairs is not None:
        ingested = edit_pairs.select("pair_id", fault="error").unique("pair_id", keep="first")
        known = known.drop("fault").join(ingested, on="pair_id", how="inner", maintain_order="left")
    return _keys(known.select("key", "item_id", "instruction", "instructions", "source", "licence", "fault"))


def import_batch(
    records: Iterable[Record], keys: pl.DataFrame, mapping: AnyMapping, seen: set[int] | None = None
) -> Imported:
    """Chains of a batch of records in their order, and the records that are refused.

    `keys`: KEYS of the images or pairs at hand. `seen`: chain ids of earlier batches (as numbers), to which
    this batch's are added. Any fault of a record is its reason; none raises.
    """
    columns = T2I_CHAINS if isinstance(mapping, T2IMapping) else EDIT_CHAINS
    rows: list[dict[str, Any]] = []
    refused: list[dict[str, Any]] = []
    read = list(records)
    found = _matched([_key(record, mapping) for record in read], keys)
    taken = set() if seen is None else seen
    for record, match in zip(read, found, strict=True):
        try:
            row = _row(record, match, mapping)
            number = int(row["chain_id"], 16)
            if number in taken:
                raise RecordError("repeated", f"chain {row['chain_id']} was imported before")
            taken.add(number)
            rows.append(row)
        except RecordError as error:
            refused.append(_refused(record, match["key"], error))
    good = [{name: row.get(name) for name in columns} for row in rows]
    return Imported(frame_of(good, columns), frame_of(refused, REFUSED))


def _keys(known: pl.DataFrame) -> pl.DataFrame:
    """One row a key; a key that several different items answer to has no item."""
    filled = known.with_columns(
        pl.lit(None, dtype).alias(name) for name, (dtype, _) in KEYS.items() if name not in known.columns
    )
    several = pl.col("item_id").n_unique().over("key") > 1
    rows = filled.with_columns(item_id=pl.when(several).then(None).otherwise(pl.col("item_id")))
    # A good row goes before a quarantined one of the same bytes.
    rows = rows.sort("fault", nulls_last=False, maintain_order=True)
    return rows.unique("key", keep="first", maintain_order=True).select(list(KEYS)).cast(_schema(KEYS))


def _schema(columns: Columns) -> Any:
    return polars_schema(columns)


def _key(record: Record, mapping: AnyMapping) -> str | None:
    if record.values is None:
        return None
    column = mapping.image if isinstance(mapping, T2IMapping) else mapping.pair
    value = value_of(record.values, column)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    try:
        return _clean(value, column).removeprefix("./")
    except RecordError:
        return None


def _matched(names: list[str | None], keys: pl.DataFrame) -> list[dict[str, Any]]:
    """The row of `keys` for each name, in order; `here` says whether there is one."""
    named = pl.DataFrame({"key": names}, schema={"key": pl.String})
    joined = named.join(
        keys.with_columns(here=pl.lit(True)), on="key", how="left", maintain_order="left"
    ).with_columns(pl.col("here").fill_null(False))
    return joined.to_dicts()


def _row(record: Record, match: dict[str, Any], mapping: AnyMapping) -> dict[str, Any]:
    values = record.values
    if values is None:
        reason, _, detail = (record.error or "").partition(": ")
        raise RecordError(reason, detail)
    named, kind = (mapping.image, "image") if isinstance(mapping, T2IMapping) else (mapping.pair, "pair")
    if match["key"] is None:
        raise RecordError("no_value", f"column {named} names nothing")
    _check_match(match, kind)
    chain = _chain(values, mapping)
    if isinstance(mapping, T2IMapping):
        row = _t2i_row(values, match, mapping, chain)
    else:
        row = _edit_row(values, match, mapping, chain)
    return row | {
        "chain": chain.to_data(),
        "boxes": len(chain.boxes),
        "source": _optional(values, mapping.source) or match["source"] or mapping.name,
        "licence": _optional(values, mapping.licence) or match["licence"] or mapping.default_licence,
    }


def _check_match(match: dict[str, Any], kind: str) -> None:
    if not match["here"]:
        raise RecordError(f"{kind}_missing", f"{match['key']!r} is not among those at hand")
    if match["item_id"] is None:
        raise RecordError(f"{kind}_ambiguous", f"several answer to {match['key']!r}")
    if match["fault"] is not None:
        raise RecordError(f"{kind}_quarantined", f"{match['key']}: {match['fault']}")


def _t2i_row(
    values: dict[str, Any], match: dict[str, Any], mapping: T2IMapping, chain: Chain
) -> dict[str, Any]:
    prompt = _clean(value_of(values, mapping.prompt), mapping.prompt)
    phrases = _texts(values, mapping.phrases)
    return {
        "chain_id": _chain_id(values, mapping, match["item_id"], prompt),
        "image_id": match["item_id"],
        "prompt": prompt,
        "caption": _optional(values, mapping.caption) or text_without_boxes(chain),
        "phrases": [placed.phrase for placed in chain.boxes if placed.phrase] if phrases is None else phrases,
    }


def _edit_row(values: dict[str, Any], match: dict[str, Any], mapping: Any, chain: Chain) -> dict[str, Any]:
    instruction = _optional(values, mapping.instruction) or match["instruction"]
    if not instruction:
        raise RecordError("no_value", "neither the record nor its pair has an instruction")
    wordings = _texts(values, mapping.instructions) or match["instructions"] or [instruction]
    return {
        "chain_id": _chain_id(values, mapping, match["item_id"], instruction),
        "pair_id": match["item_id"],
        "instruction": instruction,
        "instructions": wordings,
    }


def _chain(values: dict[str, Any], mapping: AnyMapping) -> Chain:
    text = value_of(values, mapping.chain)
    if not isinstance(text, str) or not text.strip():
        raise RecordError("no_value", f"column {mapping.chain} holds no text")
    _check_unicode(text, mapping.chain)
    if mapping.coordinates is not None:
        text = insert_boxes(text, coordinates_of(value_of(values, mapping.coordinates)))
    chain, dropped = parse_tolerant(text)
    if dropped:  # spaces, zeros and markers are mended; what would be lost is not
        fault = dropped[0]
        raise RecordError("not_a_chain", f"{fault.reason} (at character {fault.position})")
    try:
        parse(chain.to_data(), "data")
        if not isinstance(mapping, T2IMapping):
            read_edit_chain(chain)
    except ChainError as error:
        raise RecordError("not_a_chain", str(error)) from error
    return chain


def text_without_boxes(chain: Chain) -> str:
    """The chain's text without its boxes and the space before each."""
    pieces: list[str] = []
    for part in parse(chain.to_data(), "data").parts:
        if not isinstance(part, Boxed):
            pieces.append(part.text)
        elif pieces:
            pieces[-1] = _BEFORE_BOX.sub("", pieces[-1])
    return "".join(pieces)


def _chain_id(values: dict[str, Any], mapping: AnyMapping, item_id: str, prompt: str) -> str:
    given = _optional(values, mapping.chain_id)
    if given and _HEX_ID.fullmatch(given):
        return given
    return short_hash(item_id, f"import:{mapping.name}", prompt)


def _clean(value: Any, column: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise RecordError("no_value", f"column {column} holds no text")
    return _check_unicode(value, column).strip()


def _optional(values: dict[str, Any], column: str | None) -> str | None:
    value = value_of(values, column) if column else None
    return _check_unicode(value, column).strip() or None if isinstance(value, str) and column else None


def _texts(values: dict[str, Any], column: str | None) -> list[str] | None:
    """The texts of a list; None where there is no list."""
    value = value_of(values, column) if column else None
    if not isinstance(value, list) or not column:
        return None
    return [_check_unicode(one, column) for one in value if isinstance(one, str)]


def _check_unicode(text: str, column: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise RecordError("bad_text", f"column {column}: {error.reason}") from error
    return text


def _refused(record: Record, key: str | None, error: RecordError) -> dict[str, Any]:
    raw = record.raw if record.values is None else record_text(record.values)
    message = str(error).encode("utf-8", "backslashreplace").decode()
    return {
        "file": record.file,
        "row": record.row,
        "key": key,
        "error": message,
        "reason": error.reason,
        "record": raw.encode("utf-8", "backslashreplace").decode(),
    }
