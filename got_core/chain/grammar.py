"""Chains and their three spellings: one parser, one writer.

    data    a red circle (120,340),(380,600) on a table
    model   a red circle <|box_start|>(120,340),(380,600)<|box_end|> (red) on a table
    marked  <|obj_start|>a red circle<|obj_end|> <|box_start|>(120,340),(380,600)<|box_end|> on a table

Data form is how chains are stored, model form is what the MLLM reads and writes (the word in brackets is the
mask's fill), marked form is GoT-R1's. Belongs here: spelling. Not here: what a chain's items mean (`edits`).

The grammar is lossless: what `parse` accepts in one spelling is written back in that spelling character by
character. It can be, because running text may hold no marker, no box and no lone `(12,34)`: each of these is
an error with its position.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from got_core.chain.boxes import LIMIT, Box
from got_core.chain.faults import (
    BOX_END,
    BOX_START,
    LOOSE_POINTS,
    OBJ_END,
    OBJ_START,
    TIGHT_POINTS,
    ChainError,
    Spelling,
    check_text,
    first_debris,
)
from got_core.chain.palette import is_color, palette_color
from got_core.chain.phrases import phrase_span

__all__ = [
    "BOX_END",
    "BOX_START",
    "OBJ_END",
    "OBJ_START",
    "Boxed",
    "Chain",
    "ChainError",
    "Dropped",
    "PlacedBox",
    "Spelling",
    "Text",
    "parse",
    "parse_tolerant",
    "spelling_of",
]

_PHRASE = r"(?:<\|obj_start\|>(?P<phrase>(?:(?!<\|).)+)<\|obj_end\|>(?P<gap>\s*))?"
_STRICT: dict[Spelling, re.Pattern[str]] = {
    "data": re.compile(TIGHT_POINTS),
    "model": re.compile(rf"<\|box_start\|>{TIGHT_POINTS}<\|box_end\|> \((?P<color>[A-Za-z]+)\)"),
    "marked": re.compile(rf"{_PHRASE}<\|box_start\|>{TIGHT_POINTS}<\|box_end\|>", re.DOTALL),
}
_LOOSE = re.compile(
    rf"{_PHRASE}(?P<open><\|box_start\|>\s*)?{LOOSE_POINTS}(?P<close>\s*<\|box_end\|>)?"
    r"(?P<fill>\s{0,2}\((?P<color>[A-Za-z]+)\))?",
    re.DOTALL,
)
_CORNERS = ("x1", "y1", "x2", "y2")


@dataclass(frozen=True)
class Text:
    """Running text of a chain, not empty."""

    text: str


@dataclass(frozen=True)
class Boxed:
    """A box in a chain, with what its spelling says about it."""

    box: Box
    color: str | None = None
    """Mask colour as written in model form; None: the palette decides by the box's place in the chain."""
    phrase: str | None = None
    """Phrase between the markers of the marked form, "" where that form has none; None: another form."""
    gap: str = ""
    """White space between a marked phrase and its box."""

    @property
    def words(self) -> str:
        """The marked phrase and what follows it, as plain text."""
        return (self.phrase or "") + self.gap


@dataclass(frozen=True)
class PlacedBox:
    """A box with its mask colour and the phrase that names it ("" where nothing does)."""

    box: Box
    color: str
    phrase: str


@dataclass(frozen=True)
class Dropped:
    """Something that the tolerant parser left out: where it was (character from 0), what, and why."""

    position: int
    text: str
    reason: str


@dataclass(frozen=True)
class Chain:
    """A reasoning chain: running text with boxes in it.

    Neighbouring texts are joined and empty ones left out, so equal chains compare equal. Raises ChainError
    (position in data form) where text holds markers or coordinates, or a colour or phrase cannot be spelled.
    """

    parts: tuple[Text | Boxed, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", tuple(_joined(self.parts)))
        _check_parts(self.parts)

    def to_data(self) -> str:
        """Data form: no markers, no colours."""
        return "".join(p.text if isinstance(p, Text) else f"{p.words}{p.box}" for p in self.parts)

    def to_model(self) -> str:
        """Model form: markers, and a mask colour after each box (as written, else from the palette)."""
        colors = iter(self.colors)
        return "".join(
            p.text if isinstance(p, Text) else f"{p.words}{BOX_START}{p.box}{BOX_END} ({next(colors)})"
            for p in self.parts
        )

    def to_marked(self) -> str:
        """Marked form: phrases that stand right before their box are marked, guessed where not given."""
        pieces: list[str] = []
        for part, following in zip(self.parts, (*self.parts[1:], None), strict=False):
            if isinstance(part, Text):
                guess = isinstance(following, Boxed) and following.phrase is None
                pieces.append(_with_mark(part.text) if guess else part.text)
                continue
            if part.phrase:
                pieces.append(f"{OBJ_START}{part.phrase}{OBJ_END}{part.gap}")
            pieces.append(f"{BOX_START}{part.box}{BOX_END}")
        return "".join(pieces)

    @property
    def colors(self) -> list[str]:
        """Mask colour of each box in order: as written, else the palette's."""
        boxed = [part for part in self.parts if isinstance(part, Boxed)]
        return [part.color or palette_color(k) for k, part in enumerate(boxed)]

    @property
    def boxes(self) -> list[PlacedBox]:
        """The chain's boxes in order, each with its mask colour and its phrase."""
        found: list[PlacedBox] = []
        before = ""
        for part in self.parts:
            if isinstance(part, Text):
                before = part.text
                continue
            phrase = part.phrase or before[slice(*phrase_span(before))]
            found.append(PlacedBox(part.box, part.color or palette_color(len(found)), phrase))
            before = ""
        return found

    def __str__(self) -> str:
        return self.to_data()


def spelling_of(text: str) -> Spelling:
    """Which spelling a text is in, by its markers. Boxes with markers, none with a colour: marked form.

    A guess: where no phrase is marked, a text that goes on with a bracket after a box reads as model form.
    """
    if OBJ_START in text or OBJ_END in text:
        return "marked"
    if BOX_START not in text and BOX_END not in text:
        return "data"
    return "model" if re.search(r"<\|box_end\|>\s*\(", text) or BOX_END not in text else "marked"


def parse(text: str, spelling: Spelling | None = None) -> Chain:
    """Read a chain, strictly.

    `spelling` None: found from the markers. Numbers are 0..999 without leading zeros and spaces, corners in
    order; in model form each box has its colour, a PIL name. `parse(t).to_X() == t` for the spelling of t.
    Raises ChainError with the position of the first fault.
    """
    spelling = spelling or spelling_of(text)
    parts: list[Text | Boxed] = []
    end = 0
    for match in _STRICT[spelling].finditer(text):
        plain = text[end : match.start()]
        _check_run(plain, _named(match), end, spelling)
        parts += [Text(plain), _strict_box(match)]
        end = match.end()
    check_text(text[end:], end, spelling)
    return Chain((*parts, Text(text[end:])))


def parse_tolerant(text: str, spelling: Spelling | None = None) -> tuple[Chain, list[Dropped]]:
    """Read what is readable of a chain and list what was dropped, in order of position.

    Boxes with spaces, leading zeros, missing markers or missing colours are kept; boxes out of range or with
    swapped corners, unfinished ones and stray markers are dropped, the words around them stay. Text that
    `parse` accepts gives the same chain and an empty list. Never raises for any str.
    """
    try:
        return parse(text, spelling), []
    except ChainError:
        reader = _TolerantReader(text, spelling or spelling_of(text))
        return reader.read(), sorted(reader.dropped, key=lambda d: d.position)


class _TolerantReader:
    """One pass over a malformed chain."""

    def __init__(self, text: str, spelling: Spelling) -> None:
        self.text = text
        self.spelling = spelling
        self.dropped: list[Dropped] = []

    def read(self) -> Chain:
        parts: list[Text | Boxed] = []
        words: list[int] = []
        end = 0
        for match in _LOOSE.finditer(self.text):
            words = self._clean([*words, *self._clean(range(end, match.start()))])
            named = [k for name in ("phrase", "gap") for k in range(*match.span(name))]
            joined = self._clean([*words, *named])
            boxed, end = self._box(match)
            marked = boxed is not None and bool(named) and joined == [*words, *named]
            if named and not marked:
                self.dropped.append(Dropped(match.start(), OBJ_START, "mark of a phrase, not its box"))
            if boxed is None:
                words = joined
                continue
            parts += (
                [Text(self._read(words)), boxed]
                if marked
                else [Text(self._read(joined)), Boxed(boxed.box, boxed.color)]
            )
            words = []
        words = self._clean([*words, *self._clean(range(end, len(self.text)))])
        return Chain((*parts, Text(self._read(words))))

    def _read(self, places: Sequence[int]) -> str:
        return "".join(self.text[k] for k in places)

    def _clean(self, places: Sequence[int]) -> list[int]:
        """Running text, as places in the whole text, without its faults; each is listed as dropped."""
        places = list(places)
        while (found := first_debris(self._read(places))) is not None:
            start, end, reason = found
            first, last = places[start], places[end - 1] + 1
            self.dropped.append(Dropped(first, self.text[first:last], reason))
            del places[start:end]
        return places

    def _box(self, match: re.Match[str]) -> tuple[Boxed | None, int]:
        """The box of a match, None where it cannot be one, and where the text goes on."""
        marked = bool(match["open"] or match["close"])
        filled = marked and self.spelling == "model" and match["fill"] is not None
        end = match.end() if filled or match["fill"] is None else match.start("fill")
        start = match.start("open") if match["open"] else match.start("x1") - 1
        try:
            box = Box(*(_loose_number(match[name]) for name in _CORNERS))
        except ValueError as error:
            self.dropped.append(Dropped(start, self.text[start:end], str(error)))
            return None, end
        color = match["color"] if filled else None
        if color is not None and not is_color(color):
            self.dropped.append(Dropped(match.start("fill"), match["fill"], f"unknown mask colour {color!r}"))
            color = None
        return Boxed(box, color, match["phrase"], match["gap"] or ""), end


def _joined(parts: Iterable[Text | Boxed]) -> Iterator[Text | Boxed]:
    """Parts with neighbouring texts joined and empty ones left out."""
    held = ""
    for part in parts:
        if isinstance(part, Text):
            held += part.text
            continue
        if held:
            yield Text(held)
        held = ""
        yield part
    if held:
        yield Text(held)


def _with_mark(text: str) -> str:
    """Text before an unmarked box, with its last phrase marked where nothing but space follows it."""
    start, end = phrase_span(text)
    if start == end or text[end:].strip():
        return text
    return f"{text[:start]}{OBJ_START}{text[start:end]}{OBJ_END}{text[end:]}"


def _check_parts(parts: Iterable[Text | Boxed]) -> None:
    """Raise ChainError unless every run of text between boxes can be distinguished from boxes and markers."""
    run, start = "", 0
    for part in parts:
        if isinstance(part, Text):
            run += part.text
            continue
        if part.color is not None and not (part.color.isalpha() and is_color(part.color)):
            raise ChainError(start + len(run), f"unknown mask colour {part.color!r}")
        if part.gap.strip() or (part.gap and not part.phrase):
            raise ChainError(start + len(run), "between a marked phrase and its box there is only space")
        run += part.words
        check_text(run, start)
        start += len(run) + len(str(part.box))
        run = ""
    check_text(run, start)


def _check_run(plain: str, words: str, offset: int, spelling: Spelling) -> None:
    """Check the text before a box: a marked phrase may finish what the text began, "(1,2" + ") cat"."""
    try:
        check_text(plain + words, offset, spelling)
    except ChainError as error:
        inside = error.position - offset >= len(plain) and words
        raise ChainError(error.position + (len(OBJ_START) if inside else 0), error.message) from None


def _named(match: re.Match[str]) -> str:
    """A marked phrase and the space after it; "" in the other forms."""
    named = match.groupdict()
    return (named.get("phrase") or "") + (named.get("gap") or "")


def _strict_box(match: re.Match[str]) -> Boxed:
    x1, y1, x2, y2 = (_strict_number(match, name) for name in _CORNERS)
    if x1 > x2 or y1 > y2:
        raise ChainError(
            match.start("x1") - 1, f"corners swapped in {x1, y1},{x2, y2}: need x1 <= x2, y1 <= y2"
        )
    named = match.groupdict()
    color = named.get("color")
    if color is not None and not is_color(color):
        raise ChainError(match.start("color"), f"unknown mask colour {color!r}: need a PIL colour name")
    phrase = (named["phrase"] or "") if "phrase" in named else None
    return Boxed(Box(x1, y1, x2, y2), color, phrase, named.get("gap") or "")


def _strict_number(match: re.Match[str], name: str) -> int:
    digits = match[name]
    if len(digits) > 1 and digits[0] == "0":
        raise ChainError(match.start(name), f"coordinate {digits[:12]!r} has a leading zero")
    if len(digits) > len(str(LIMIT - 1)):
        raise ChainError(match.start(name), f"coordinate {digits[:12]!r} is outside 0..{LIMIT - 1}")
    return int(digits)


def _loose_number(text: str) -> int:
    digits = text.strip().removeprefix("+").lstrip("0") or "0"
    if not digits.isdigit() or len(digits) > len(str(LIMIT - 1)):
        raise ValueError(f"coordinate {text.strip()[:12]!r} is no whole number in 0..{LIMIT - 1}")
    return int(digits)
