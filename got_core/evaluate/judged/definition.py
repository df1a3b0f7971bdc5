"""What a `benchmark.toml` says: samples, what the judge is asked, and how its scores become one.

    (one, *variants) = read_definitions(Path("judged/my_edits"), "judged/my_edits")

Belongs here: reading the file and checking it. Not here: its shape (`shape`), reading samples (`samples`) or
prompts (`prompts`), or what the functions it names do (`aggregation`, `readers`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from got_core.evaluate.judged.shape import (
    EDITED,
    FORMATS,
    HOLDING,
    NEEDED_FIELDS,
    OVERALLS,
    REPLIES,
    SAMPLE_SCORES,
    SOURCE,
    Ask,
    Definition,
    FileNeeded,
    Scoring,
    Source,
    Wording,
    columns_in,
)
from got_core.evaluate.judged.tables import Table, is_number
from got_core.evaluate.judged_names import DEFINITION, OWN, PART, DefinitionError, read_definition

_SHA256 = re.compile(r"[0-9a-f]{64}")


def read_definitions(folder: Path, base: str) -> tuple[Definition, ...]:
    """All benchmarks of a folder; `base`: the name of the first. Raises DefinitionError, or OSError."""
    file = folder / DEFINITION
    if not all(PART.fullmatch(part) for part in base.split("/")):
        raise DefinitionError(
            f"{folder}: the folder's name must be small letters, digits and single underscores, since it "
            "names assets and files"
        )
    data = dict(read_definition(file))
    variants = Table(file, data.pop("variants", {}), "variants")
    made = [_definition(folder, base, base, data)] if data.get("listed", True) else []
    for name in variants:
        if not all(PART.fullmatch(part) for part in name.split("/")):
            raise variants.fault(name, "must be named by small letters, digits and single underscores")
        merged = _variant(variants, name, data, ())
        if merged.get("listed", True):
            made.append(_definition(folder, f"{base}/{name}", base, merged))
    return tuple(made)


def _variant(variants: Table, name: str, data: Mapping[str, Any], within: tuple[str, ...]) -> dict[str, Any]:
    """The file's own keys with a variant's over them; `like` names another variant to begin with."""
    own = dict(variants.table(name).raw_all())
    like = own.pop("like", None)
    if like is not None and (like not in variants or like in (*within, name)):
        raise variants.table(name).fault("like", f"must name another variant, got {like!r}")
    base = _variant(variants, like, data, (*within, name)) if like else {**data, "listed": True}
    own.setdefault("listed", True)
    return _merged(base, own)


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Tables are merged, anything else is replaced; `false` in place of a table takes it away."""
    made = dict(base)
    for key, value in over.items():
        if value is False and isinstance(base.get(key), Mapping):
            del made[key]
            continue
        both = isinstance(value, Mapping) and isinstance(base.get(key), Mapping)
        made[key] = _merged(base[key], value) if both else value
    return made


def _definition(folder: Path, name: str, base: str, data: Mapping[str, Any]) -> Definition:
    table = Table(folder / DEFINITION, data)
    table.flag("listed", True)
    below = _below(folder, base)
    made = Definition(
        name=name,
        base=base,
        folder=folder,
        title=table.text("title"),
        version=table.count("version", 1),
        judge=table.text("judge", ""),
        files=tuple(_file(table.table("download").table(one), below) for one in table.table("download", {})),
        source=_source(table.table("samples"), below),
        asks=tuple(_ask(table.table("ask").table(one), one) for one in table.table("ask")),
        scoring=_scoring(table.table("score")),
        **_pictures(table.table("pictures", {}), base),
    )
    table.raw("download", {})
    table.raw("pictures", {})
    table.done()
    _check(table, made)
    return made


def _below(folder: Path, base: str) -> str:
    """What `./` at the beginning of a path means: the folder of a user's own definition."""
    return f"{base}/" if base.startswith(f"{OWN}/") else ""


def _located(table: Table, key: str, below: str, default: Any = ...) -> str:
    path = table.path(key) if default is ... else table.path(key, default)
    if path.startswith("./") and not below:
        raise table.fault(key, "begins with `./`, which is the folder of a benchmark below GOT_BENCHMARKS")
    return below + path[2:] if path.startswith("./") else path


def _file(table: Table, below: str) -> FileNeeded:
    sha256 = table.raw("sha256", None)
    if sha256 is not None and not (isinstance(sha256, str) and _SHA256.fullmatch(sha256)):
        raise table.fault("sha256", f"must be 64 hex digits, got {sha256!r}")
    made = FileNeeded(
        what=table.text("what"),
        where=table.text("where"),
        licence=table.text("licence"),
        path=_located(table, "path", below),
        sha256=sha256,
        judging=table.flag("judging", False),
    )
    table.done()
    return made


def _source(table: Table, below: str) -> Source:
    path = _located(table, "path", below)
    made = Source(
        format=table.choice("format", FORMATS),
        path=path,
        pictures=_located(table, "pictures", below, path.rpartition("/")[0] or path),
        split=table.text("split", "test"),
        folders=table.texts("folders", ()),
        count=table.count("count", None),
        fields=table.mapping("fields"),
        shown=table.mapping("shows", {SOURCE: "{source}"}),
        only=_conditions(table, "only"),
        sets={name: _conditions(table.table("sets"), name) for name in table.table("sets", {})},
    )
    table.raw("sets", {})
    table.done()
    for needed, there in ((NEEDED_FIELDS, made.fields), ((SOURCE,), made.shown)):
        if missing := [one for one in needed if one not in there]:
            raise table.fault("fields" if there is made.fields else "shows", f"lacks `{missing[0]}`")
    if (made.format == "folders") != bool(made.folders):
        raise table.fault("folders", "names folders of the format `folders`, and of no other")
    wrong = [one for one in made.shown.values() if one not in {f"{{{name}}}" for name in columns_in([one])}]
    if wrong and made.format in HOLDING:
        raise table.fault("shows", f"must name one column that holds a picture, `{{NAME}}`, got {wrong[0]!r}")
    return made


def _conditions(table: Table, key: str) -> dict[str, str | bool]:
    value = table.raw(key, {})
    if not isinstance(value, Mapping) or not all(isinstance(one, str | bool) for one in value.values()):
        raise table.fault(key, f"must be a table of columns with a text, true or false, got {value!r}")
    return dict(value)


def _ask(table: Table, name: str) -> Ask:
    if not PART.fullmatch(name):
        raise DefinitionError(f"{table.file}: `{table.name}` must be named by small letters and digits")
    made = Ask(
        name=name,
        wording=_wording(table),
        shows=table.texts("shows"),
        pictures_first=table.flag("pictures_first", False),
        scores=table.texts("scores"),
        low=table.number("low"),
        high=table.number("high"),
        reply=table.choice("reply", REPLIES, "scores"),
        choices=table.texts("choices", ()),
        max_tokens=table.count("max_tokens", 1024),
        only=_only(table),
    )
    table.done()
    if not made.shows or not made.scores or len(set(made.scores)) < len(made.scores):
        raise table.fault("scores", "and `shows` must name at least one, and each score once")
    if made.low >= made.high:
        raise table.fault("high", f"must be above `low`, got {made.low:g} and {made.high:g}")
    if len({one.casefold() for one in made.choices}) < len(made.choices):
        raise table.fault("choices", "must be unlike, capital letters aside")
    if (made.reply == "choice") != (len(made.choices) > 1) or (made.choices and len(made.scores) > 1):
        raise table.fault("choices", "are two or more of a reply `choice`, which gives one score")
    return made


def _only(table: Table) -> dict[str, tuple[str, ...] | bool]:
    value = table.raw("only", {})
    if not isinstance(value, Mapping):
        raise table.fault("only", f"must be a table of fields, got {value!r}")
    made: dict[str, tuple[str, ...] | bool] = {}
    for name, one in value.items():
        if not (isinstance(one, bool) or (isinstance(one, list) and all(isinstance(x, str) for x in one))):
            raise table.fault(f"only.{name}", f"must be a list of texts, true or false, got {one!r}")
        made[name] = one if isinstance(one, bool) else tuple(one)
    return made


def _wording(table: Table) -> Wording:
    fill = table.mapping("fill", {}) or None
    if isinstance(table.raw("prompt"), str):
        return Wording(file=table.path("prompt"), fill=fill)
    prompt = table.table("prompt")
    sha256 = prompt.raw("sha256", None)
    if sha256 is not None and not (isinstance(sha256, str) and _SHA256.fullmatch(sha256)):
        raise prompt.fault("sha256", f"must be 64 hex digits, got {sha256!r}")
    made = Wording(
        file=prompt.path("file"),
        published=True,
        variables=prompt.texts("variables", ()),
        key=prompt.text("key", ""),
        join=prompt.raw("join", "\n"),
        sha256=sha256,
        fill=fill,
    )
    prompt.done()
    if made.file.endswith(".py") != bool(made.variables) or made.file.endswith(".json") != bool(made.key):
        raise prompt.fault("file", "is a Python file with `variables`, JSON with `key`, or any other text")
    return made


def _scoring(table: Table) -> Scoring:
    weights = table.raw("weights", {})
    parts = table.raw("parts", [])
    if not isinstance(parts, list) or not all(isinstance(one, list) and one for one in parts):
        raise table.fault("parts", f"must be a list of lists of scores, got {parts!r}")
    numbers = isinstance(weights, Mapping) and all(is_number(one) and one > 0 for one in weights.values())
    if not numbers:
        raise table.fault("weights", f"must be a table of scores with numbers above 0, got {weights!r}")
    made = Scoring(
        sample=table.choice("sample", SAMPLE_SCORES),
        parts=tuple(tuple(one) for one in parts),
        weights=dict(weights),
        needs=table.texts("needs", ()),
        factor=table.number("factor", 1.0),
        overall=table.choice("overall", OVERALLS, "samples"),
    )
    table.done()
    if (made.sample == "root_of_product") != (len(made.parts) == 2):
        raise table.fault("parts", "are two of `root_of_product`, and of nothing else")
    if (made.sample == "weighted") != bool(made.weights):
        raise table.fault("weights", "are those of `weighted`, and of nothing else")
    return made


def _pictures(table: Table, base: str) -> dict[str, Any]:
    made = {
        "place": table.path("place", "{id}"),
        "besides": table.texts("besides", ()),
        "pictures_folder": "published/" + table.text("folder", base.replace("/", "_")),
        "resize": table.choice("resize", ("none", SOURCE), "none"),
        "longest": table.count("longest", None),
    }
    table.done()
    return made


def _check(table: Table, made: Definition) -> None:
    """What keys of different tables must agree on."""
    if not made.asks:
        raise table.fault("ask", "must have at least one question")
    if made.scoring.sample == "root_of_product" and any(ask.low < 0 for ask in made.asks):
        raise table.fault("score.sample", "takes a root: no question's `low` can be below 0")
    if not PART.fullmatch(made.pictures_folder.partition("/")[2]):
        raise table.fault("pictures.folder", "must be small letters, digits and single underscores")
    fields = {*made.source.fields, "task", "cluster"}
    pictures = {*made.source.shown, EDITED}
    for ask in made.asks:
        if unknown := [one for one in ask.shows if one not in pictures]:
            raise table.fault(
                f"ask.{ask.name}.shows",
                f"names {unknown[0]!r}, which is no picture; there are {', '.join(sorted(pictures))}",
            )
        if unknown := [one for one in ask.only if one not in fields | pictures]:
            raise table.fault(f"ask.{ask.name}.only", f"names {unknown[0]!r}, which is no field")
        used = columns_in([*(ask.wording.fill or {}).values(), ask.wording.key])
        if unknown := [one for one in used if one not in fields]:
            raise table.fault(f"ask.{ask.name}", f"fills in {unknown[0]!r}, which is no field")
    if unknown := [one for one in columns_in([made.place]) if one not in fields]:
        raise table.fault("pictures.place", f"names {unknown[0]!r}, which is no field")
    scoring = made.scoring
    named = [*(name for part in scoring.parts for name in part), *scoring.weights, *scoring.needs]
    if unknown := [one for one in named if one not in made.score_names]:
        raise table.fault("score", f"names {unknown[0]!r}, which no question gives")
