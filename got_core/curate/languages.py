"""Which language a prompt or caption is written in, by its script and its function words.

Belongs here: a guess that is right for whole sentences of a few European languages, and fast. Not here:
telling apart closely related languages or single words: a text too short to tell counts as right.
"""

from __future__ import annotations

import re

import polars as pl

FUNCTION_WORDS = {
    "en": "a an and are as at by for from has in into is it its of on or that the there this to with",
    "de": "am auf aus das dem den der des die ein eine einem einen eines im in ist mit sich und von vor",
    "es": "a al con de del el en es esta la las los para por que se son su sobre un una y",
    "fr": "au aux avec dans de des du elle en est et il la le les par pour qui sont sur un une",
    "it": "al alla che con da dei del della di e gli il in la le lo nel nella per si sono su un una",
    "nl": "aan de een en er het in is met naar op staat te van voor zijn",
    "pt": "ao as com da de do dos e em na no nos o os para por que se sobre um uma",
}
_ENGLISH_ONLY = " (?:and|are|from|is|its|of|the|there|this|with) "
"""Words that mark English at once, as they stand in running text."""

MAX_FOREIGN_SCRIPT = 0.2
"""Share of letters of another script than the Latin one above which a text is not one of these languages."""

_LETTERS = re.compile(r"[^\W\d_]+")
_NOT_LATIN = r"[^\p{Latin}\p{Common}\p{Inherited}]"
_CHARACTERS_A_MARK = 80


def foreign(texts: pl.Series, languages: tuple[str, ...]) -> list[tuple[int, str]]:
    """Number and fault of each text that is in none of the languages. Null counts as right.

    Raises ValueError, which lists the languages, for one that is not known.
    """
    unknown = [name for name in languages if name not in FUNCTION_WORDS]
    if unknown:
        raise ValueError(f"languages: unknown language {unknown[0]!r}; there are {', '.join(FUNCTION_WORDS)}")
    column = pl.col("text")
    frame = texts.alias("text").to_frame().with_row_index("row").drop_nulls("text")
    if "en" in languages:
        # For most captions one search for a handful of words is enough.
        english = column.str.count_matches(_ENGLISH_ONLY) * _CHARACTERS_A_MARK >= column.str.len_bytes()
        ascii_only = column.str.len_bytes() == column.str.len_chars()
        # Only the few others are read letter by letter.
        frame = frame.filter(~(english & ascii_only)).filter(~english | column.str.contains(_NOT_LATIN))
    faults = ((row, _fault(text, languages)) for row, text in frame.iter_rows())
    return [(row, fault) for row, fault in faults if fault]


def _fault(text: str, languages: tuple[str, ...]) -> str:
    """Why a text is in none of the languages; "" if it may be."""
    if not text.isascii():
        letters = "".join(_LETTERS.findall(text))
        strange = sum(not _is_latin(letter) for letter in letters)
        if strange > MAX_FOREIGN_SCRIPT * len(letters):
            return f"{strange} of {len(letters)} letters are of another script"
    counts = dict.fromkeys(FUNCTION_WORDS, 0)
    for word in _LETTERS.findall(text.lower()):
        for name in _LANGUAGES_OF.get(word, ()):
            counts[name] += 1
    wanted = max(counts[name] for name in languages)
    likely = max(counts, key=lambda name: counts[name])
    if counts[likely] < wanted + 2 or 2 * counts[likely] < 3 * wanted:
        return ""
    return f"reads like {likely} ({counts[likely]} function words, {wanted} of {' or '.join(languages)})"


def _is_latin(letter: str) -> bool:
    return letter < "\u0250" or "\u1e00" <= letter <= "\u1eff"


def _languages_of() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, words in FUNCTION_WORDS.items():
        for word in words.split():
            found.setdefault(word, []).append(name)
    return found


_LANGUAGES_OF = _languages_of()
