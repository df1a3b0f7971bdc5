"""Pictures to click through: what was asked for, planned, drawn and found, of one model or of two beside
each other.

Belongs here: chosen samples as the data that the page's script shows. Not here: which samples (`cases`), the
script itself (`gallery.js`), the rest of the page (`page`).

All text goes into the page as JSON and from there into text nodes: prompts, chains and judges' words are
other people's, and nothing of them is ever read as HTML.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any, TypeGuard

from got_core.chain.grammar import parse_tolerant
from got_core.chain.palette import is_color, rgb
from got_core.evaluate.report.cases import Case, Limits, Side, choose
from got_core.evaluate.report.plan_diff import MOST, plan_diff
from got_core.evaluate.report.section import Opener, Run
from got_core.evaluate.report.thumbnails import Thumbnail, Thumbnails
from got_core.evaluate.why.address import why_command

_AT_ONCE = 32
_NO_PICTURE = "the picture is not in the storage any more"
_TEXTS = (
    ("reason", "Reason"),
    ("unscored", "Not scored"),
    ("plan_reason", "Faults of the plan"),
    ("reply", "Judge"),
    ("scores", "Scores"),
    ("answers", "Answers"),
    ("seed", "Seed"),
)


def script() -> str:
    """The page's only script."""
    return _text("gallery.js")


def style() -> str:
    """What the galleries of a page look like."""
    return _text("gallery.css")


def _text(name: str) -> str:
    return files("got_core.evaluate.report").joinpath(name).read_text(encoding="utf-8")


class Galleries:
    """All galleries of one page, which share its pictures and their limit."""

    def __init__(self, limits: Limits) -> None:
        self.limits, self.thumbnails = limits, Thumbnails(limits.page_bytes)
        self.sections: list[dict[str, Any]] = []

    def add(self, benchmark: str, runs: Sequence[Run]) -> str:
        """A benchmark's samples; the last run is the one whose page it is, the first what it is compared
        with. Returns the HTML of the place where the script shows them; nothing where there is no row."""
        chosen = choose(runs, self.limits)
        if not chosen.cases:
            return ""
        shown = list(self._shown(benchmark, runs, chosen.cases))
        full = sum(side is not None and bool(side.get("full")) for one in shown for side in one["sides"])
        self.sections.append({"name": benchmark, "models": [run.label for run in runs], "cases": shown})
        notes = list(_left_out(chosen.left_out))
        if full:
            notes.append(f"{full} pictures are left out: the page is full.")
        return (
            f"<section class='gallery' data-section='{len(self.sections) - 1}'>"
            "<noscript><p class='note'>Pictures are shown by a script of this page.</p></noscript></section>"
            + "".join(f"<p class='note'>{escape(one)}</p>" for one in notes)
        )

    def data(self) -> str:
        """The element that holds all of it; empty without any gallery."""
        if not self.sections:
            return ""
        text = json.dumps(
            {"pictures": self.thumbnails.uris, "sections": self.sections},
            ensure_ascii=False,
            allow_nan=False,
            separators=(",", ":"),
        )
        # In JSON "<" stands inside of strings only: nothing can end the element early.
        plain = text.replace("<", "\\u003c").encode("utf-8", "replace").decode()
        return f"<script type='application/json' id='gallery-data'>{plain}</script>"

    def _shown(self, benchmark: str, runs: Sequence[Run], cases: Sequence[Case]) -> Iterator[dict[str, Any]]:
        for start in range(0, len(cases), _AT_ONCE):
            some = cases[start : start + _AT_ONCE]
            drawn = [
                self._pictures(run.pictures, [one.sides[k] for one in some]) for k, run in enumerate(runs)
            ]
            heats = [self._pictures(run.heats, [one.sides[k] for one in some]) for k, run in enumerate(runs)]
            sources = self._sources(runs, some)
            for number, case in enumerate(some):
                sides = [
                    None
                    if side is None
                    else self._side(benchmark, run, case, side, drawn[k].get(number))
                    | {"heat": _picture(heats[k][number]) if number in heats[k] else None}
                    for k, (run, side) in enumerate(zip(runs, case.sides, strict=True))
                ]
                yield {
                    **_about(case),
                    "source": None if number not in sources else _picture(sources[number]),
                    "sides": sides,
                    "diff": _diff(case) if len(runs) > 1 else None,
                }

    def _pictures(self, opener: Opener | None, sides: Sequence[Side | None]) -> dict[int, Thumbnail | str]:
        """By the sides' places."""
        places = [number for number, side in enumerate(sides) if side is not None]
        if opener is None or not places:
            return {}
        found = opener([side.row for side in sides if side is not None])
        return {places[k]: self.thumbnails.add(picture) for k, picture in found.items()}

    def _sources(self, runs: Sequence[Run], cases: Sequence[Case]) -> dict[int, Thumbnail | str]:
        """Of the first run that has them: they are the same for all."""
        for k, run in reversed(list(enumerate(runs))):
            if run.sources is not None:
                return self._pictures(run.sources, [one.sides[k] for one in cases])
        return {}

    def _side(
        self, benchmark: str, run: Run, case: Case, side: Side, thumbnail: Thumbnail | str | None
    ) -> dict[str, Any]:
        chain = side.row.get("chain")
        chain = chain if isinstance(chain, str) else None
        return {
            "verdict": side.verdict,
            "cause": side.cause,
            "value": side.value,
            **_picture(_NO_PICTURE if thumbnail is None else thumbnail),
            "chain": None if chain is None else _cut(chain),
            "boxes": _boxes(chain),
            "found": list(_found(side.row.get("found"), thumbnail)),
            "texts": list(_texts(side)),
            "why": why_command(benchmark, case.name, model=run.model),
        }


def _about(case: Case) -> dict[str, Any]:
    return {
        "sample": case.sample,
        "name": case.name,
        "task": case.task,
        "prompt": _cut(case.prompt),
        "change": case.change,
    }


def _picture(thumbnail: Thumbnail | str) -> dict[str, Any]:
    if isinstance(thumbnail, str):
        return {"picture": None, "missing": thumbnail, "full": thumbnail.startswith("left out")}
    return {"picture": thumbnail.number, "size": [thumbnail.width, thumbnail.height]}


def _boxes(chain: str | None) -> list[dict[str, Any]]:
    """Planned boxes as fractions of the sides, in their mask colours."""
    if chain is None:
        return []
    return [
        {"box": list(one.box.to_pixels(1, 1)), "color": _css(one.color), "text": _cut(one.phrase, 200)}
        for one in parse_tolerant(chain[:MOST])[0].boxes
    ]


def _css(color: str) -> str:
    red, green, blue = rgb(color) if is_color(color) else (128, 128, 128)
    return f"rgb({red},{green},{blue})"


def _found(found: Any, thumbnail: Thumbnail | str | None) -> Iterator[dict[str, Any]]:
    """Detections, with boxes as fractions of the picture's sides where its size is known."""
    for one in _listed(found):
        name = " ".join(str(one[key]) for key in ("color", "cls", "class") if one.get(key))
        score = one.get("score")
        text = f"{name} {score:.2f}" if isinstance(score, int | float) else name
        box = one.get("box")
        if not isinstance(thumbnail, Thumbnail) or not _is_box(box):
            yield {"box": None, "text": _cut(text, 200)}
            continue
        x1, y1, x2, y2 = box
        wide, high = thumbnail.width, thumbnail.height
        yield {"box": [x1 / wide, y1 / high, x2 / wide, y2 / high], "text": _cut(text, 200)}


def _listed(found: Any) -> list[Mapping[str, Any]]:
    if isinstance(found, str):
        try:
            found = json.loads(found)
        except (ValueError, RecursionError):
            return []
    return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []


def _is_box(box: Any) -> TypeGuard[list[float]]:
    numbers = isinstance(box, list) and len(box) == 4
    return numbers and all(isinstance(v, int | float) and abs(v) < 1e6 for v in box)


def _texts(side: Side) -> Iterator[tuple[str, str]]:
    for name, title in _TEXTS:
        if (value := side.row.get(name)) not in (None, "", []):
            yield title, _cut(_words(value))


def _words(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "\n".join(_words(one) for one in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_words(one)}" for key, one in value.items() if one is not None)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _cut(text: str, most: int = MOST) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _diff(case: Case) -> dict[str, Any] | None:
    """Of the last model's plan against the first one's."""
    first, last = case.sides[0], case.sides[-1]
    if first is None or last is None:
        return None
    chains = [side.row.get("chain") for side in (first, last)]
    return plan_diff(*(one if isinstance(one, str) else None for one in chains))


def _left_out(left_out: Mapping[str, tuple[int, int]]) -> Iterable[str]:
    if left_out:
        parts = ", ".join(f"{task} {shown} of {count}" for task, (shown, count) in left_out.items())
        yield f"Not all failures are on this page: {parts}. The tables beside the scores hold all of them."
