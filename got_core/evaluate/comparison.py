"""Scores side by side where their protocols agree, and why not where they do not.

Belongs here: which scores share a table, its rows, differences. Not here: reading scores (`score_folder`), or
how a table looks (`comparison_page`, the command).

Scores share a table if their protocols do, or differ only in whether the model drew from plans: that is a
comparison of its own, and the table says so.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from got_core.evaluate.paired import overall_of, paired_difference
from got_core.evaluate.protocol import digest_of, why_unlike
from got_core.evaluate.published.figures import FIGURES, MARK
from got_core.evaluate.score_folder import OF_EDITS, StoredScores
from got_core.planning.geneval import TASKS

OVERALL = "overall"
_ORDER = {task: number for number, task in enumerate(TASKS)}
_COPYING = (
    "CLIP-I, DINO and L1 of Emu-Edit are perfect for a copied source: compare them with the row `copied`."
)
_PLANS = "These scores differ in whether the model drew from plans, and in nothing else of their protocols."


def compare(
    found: Sequence[StoredScores],
    *,
    base: Collection[str] = (),
    price_per_hour: float | None = None,
    published: bool = True,
) -> dict[str, Any]:
    """All scores by benchmark, as plain JSON.

    `benchmarks`: of each `name`, `tables` (`protocol`, `digest`, `figures`, `rows`, `differences`, `notes`),
    `unlike` (which tables are not one, and why, field by field), and `published` figures. `base`: URLs of the
    scores that others are compared with. `price_per_hour` of a device gives money a picture. `published`:
    whether authors' own figures stand beside.
    """
    names = dict.fromkeys(one.benchmark for one in found)
    return {
        "benchmarks": [
            _benchmark(name, [one for one in found if one.benchmark == name], base, price_per_hour)
            | ({} if published else {"published": []})
            for name in names
        ]
    }


def _benchmark(
    name: str, found: Sequence[StoredScores], base: Collection[str], price: float | None
) -> dict[str, Any]:
    groups: dict[str, list[StoredScores]] = {}
    for one in found:
        groups.setdefault(digest_of(_without_plan(one.scores["protocol_record"])), []).append(one)
    tables = [_table(some, base, price) for some in groups.values()]
    return {
        "name": name,
        "tables": tables,
        "unlike": list(_unlike([some[0] for some in groups.values()])),
        "published": [
            {"model": one.model, OVERALL: one.overall, "note": ", ".join(filter(None, [MARK, one.note]))}
            for one in FIGURES.get(name, ())
        ],
    }


def _without_plan(record: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key not in ("plan", "digest")}


def _unlike(firsts: Sequence[StoredScores]) -> Iterator[dict[str, Any]]:
    for other in firsts[1:]:
        records = [_without_plan(one.scores["protocol_record"]) for one in (firsts[0], other)]
        yield {"left": firsts[0].url, "right": other.url, "why": why_unlike(*records)}


# -- one table ---------------------------------------------------------------------------------------


def _table(found: Sequence[StoredScores], base: Collection[str], price: float | None) -> dict[str, Any]:
    first = found[0].scores
    rows = [row for one in found for row in _rows(one, base, price)]
    rows += list(_of_data(first))
    plans = {one.scores["protocol_record"].get("plan") for one in found}
    notes = [*([_PLANS] if len(plans) > 1 else []), *([_COPYING] if _directed(first) else [])]
    return {
        "protocol": first["protocol"],
        "digests": sorted({one.scores["protocol_digest"] for one in found}),
        "plans_compared": len(plans) > 1,
        "figures": list(dict.fromkeys(name for row in rows for name in row["figures"])),
        "rows": rows,
        "differences": list(_differences(rows, {one.url: one for one in found})),
        "notes": [*notes, *dict.fromkeys(note for one in found for note in one.scores.get("notes", ()))],
        "apart": list(_beside(found, rows, "apart")),
        "outside": list(_beside(found, rows, "outside")),
    }


def _beside(
    found: Sequence[StoredScores], rows: Sequence[Mapping[str, Any]], key: str
) -> Iterator[dict[str, Any]]:
    """How pictures keep to their plans (`apart`), or what edits changed `outside`, where that was looked
    at."""
    names = {row["url"]: spelled_row(row) for row in reversed(rows) if row["url"]}
    for one in found:
        if figures := one.scores.get(key):
            yield {"model": names[one.url], "figures": figures}


def _directed(scores: Mapping[str, Any]) -> bool:
    """Whether edits are compared with their sources."""
    return scores["protocol_record"].get("rules", {}).get("compared_with") == "source"


def _rows(one: StoredScores, base: Collection[str], price: float | None) -> Iterator[dict[str, Any]]:
    scores, drawn = one.scores, one.scores.get("drawn") or {}
    spent = drawn.get("costs") or {}
    seconds = spent.get("seconds")
    row = {
        "row": "base" if one.url in base else "model",
        "url": one.url,
        "model": drawn.get("model") or one.url,
        "weights_hash": drawn.get("weights_hash"),
        "plan": drawn.get("plan", scores["protocol_record"].get("plan")),
        "of": scores.get("of") or f"{scores['found']} / {scores['expected']}",
        "partial": bool(scores.get("partial", not scores["complete"])),
        "devices": spent.get("devices"),
        "seconds": seconds,
        "money": None if seconds is None or price is None else seconds * price / 3600,
    }
    yield {**row, "figures": _figures(scores)}
    if raw := _view(scores, "edited", "raw"):
        yield {**row, "row": "all samples", "seconds": None, "money": None, "figures": raw}


def _figures(scores: Mapping[str, Any]) -> dict[str, Any]:
    overall = {"mean": scores[OVERALL], "low": scores.get("low"), "high": scores.get("high")}
    if filtered := _view(scores, "edited", "filtered"):
        return filtered
    whole = {
        **overall,
        "n": scores["found"],
        "of": scores.get("of") or f"{scores['found']} / {scores['expected']}",
    }
    tasks = sorted(scores["tasks"].items(), key=_rank)
    parts = {**dict(tasks), **scores.get("skills", {})}
    return {OVERALL: whole, **{name: _cell(one) for name, one in parts.items()}}


def _rank(task: tuple[str, Any]) -> tuple[int, int]:
    """The usual order of tasks, and that of numbers: files are sorted by name."""
    first = task[0].partition(" ")[0]
    return _ORDER.get(task[0], 0), int(first) if first.isdecimal() else 0


def _cell(one: Mapping[str, Any]) -> dict[str, Any]:
    """A figure with how many pictures it is of."""
    of = one.get("of", one["n"])
    spelled = of if isinstance(of, str) else f"{one['n']} / {of}"
    return {"mean": one["mean"], "low": one.get("low"), "high": one.get("high"), "n": one["n"], "of": spelled}


def _view(scores: Mapping[str, Any], kind: str, view: str) -> dict[str, Any]:
    """All figures of a kind of picture in a benchmark of edits; empty for other benchmarks."""
    found = scores.get("settings", {}).get(scores.get("setting"), {}).get(kind, {}).get(view, {})
    return {name: _cell(found[name]) for name in OF_EDITS if name in found}


def _of_data(scores: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Rows about the data themselves: copied sources, and targets."""
    for kind in ("copied", "target"):
        if figures := _view(scores, kind, "filtered"):
            empty = dict.fromkeys(("url", "weights_hash", "plan", "of", "devices", "seconds", "money"))
            yield {**empty, "row": kind, "model": kind, "partial": False, "figures": figures}


def _differences(
    rows: Iterable[Mapping[str, Any]], found: Mapping[str, StoredScores]
) -> Iterator[dict[str, Any]]:
    """With plans minus without, of the same weights; and others minus the base."""
    models = [row for row in rows if row["row"] in ("model", "base")]
    without = {row["weights_hash"]: row for row in models if row["plan"] is False and row["weights_hash"]}
    for row in models:
        if row["plan"] and row["weights_hash"] in without:
            yield _difference("plan", row, without[row["weights_hash"]], found)
    for base in (row for row in models if row["row"] == "base"):
        for row in models:
            if row["row"] != "base":
                yield _difference("base", row, base, found)


def _difference(
    of: str, left: Mapping[str, Any], right: Mapping[str, Any], found: Mapping[str, StoredScores]
) -> dict[str, Any]:
    both = left["figures"].keys() & right["figures"].keys()
    means = {
        name: left["figures"][name]["mean"] - right["figures"][name]["mean"]
        for name in left["figures"]
        if name in both and None not in (left["figures"][name]["mean"], right["figures"][name]["mean"])
    }
    named = {"of": of, "model": _counted_row(left), "minus": _counted_row(right)}
    return {**named, "figures": means, "paired": _paired(found[left["url"]], found[right["url"]])}


def _paired(left: StoredScores, right: StoredScores) -> dict[str, Any] | None:
    """The same sample by sample, with intervals; None where outcomes are not at hand or of other samples."""
    if left.outcomes is None or right.outcomes is None:
        return None
    overall = overall_of(left.scores, left.outcomes)
    made = paired_difference(left.outcomes, right.outcomes, overall=overall, partial=True)
    return made if any(one["n"] for one in made["tasks"].values()) else None


def _counted_row(row: Mapping[str, Any]) -> str:
    """With how many pictures there are, where some are missing."""
    return f"{spelled_row(row)}{' (partial: ' + row['of'] + ')' if row['partial'] else ''}"


def spelled_row(row: Mapping[str, Any]) -> str:
    """What a row is about, in words."""
    plan = {True: ", with plans", False: ", without plans", None: ""}[row["plan"]]
    more = "" if row["row"] in ("model", row["model"]) else f" ({row['row']})"
    return f"{row['model']}{plan}{more}"
