"""Which language a prompt or caption is written in: its script, then py3langid's model of letter sequences.

A text is called foreign only where that is all but certain. Too short to tell, names, lists of tags and code
count as right. Equal texts have equal verdicts on every machine: the model is part of the package, which
opens no connection and unpickles nothing.

Belongs here: what the library's figures mean for a text. Not here: the rule (`row_rules`).
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

MAX_WANTED = 0.001
"""Probability of all wanted languages together above which a text counts as right."""
MIN_LIKELY = 0.3
"""Probability that the likeliest language needs; below, the text is of no language that the model knows."""
MIN_WORDS = 4
"""Fewest words that are judged: `gato preto` is Portuguese, and `tomato salsa` English."""
MAX_FOREIGN_SCRIPT = 0.2
"""Share of letters of another script than the Latin one above which a text is in no language that uses it."""
NO_LANGUAGE = "zxx"
"""ISO 639's code for what is no language: code, numbers, keys pressed at random."""

_OTHER_SCRIPTS = (
    "am ar ary arz as ba be bg bn dz el fa gom grc gu hbo he hi hy ja ka kk km kn ko ky lo mk ml mn mr my ne "
    "or pa ps ru sa sdh si sr ta te tg th tt ug uk ur wuu yue zh"
)
"""Languages that are written in another script than the Latin one, or in several."""
_ENGLISH_ONLY = " (?:and|are|from|is|its|of|the|there|this|with) "
"""Words that mark English at once, as they stand in running text. They save the model's time, no more."""
_CHARACTERS_A_MARK = 80

_LETTERS = re.compile(r"[^\W\d_]+")
_NOT_LATIN = r"[^\p{Latin}\p{Common}\p{Inherited}]"


def foreign(texts: pl.Series, languages: tuple[str, ...]) -> list[tuple[int, str]]:
    """Number and fault of each text that is in none of the languages (ISO 639 codes). Null counts as right.

    Raises ValueError, which lists the languages, for one that is not known, and ModuleNotFoundError without
    the package py3langid.
    """
    known = sorted({*_identifier().nb_classes} - {NO_LANGUAGE})
    unknown = [name for name in languages if name not in known]
    if unknown or not languages:
        raise ValueError(
            f"languages: {f'unknown language {unknown[0]!r}' if unknown else 'none is named'}; "
            f"there are {', '.join(known)}"
        )
    faults = ((row, _fault(text, languages)) for row, text in _doubtful(texts, languages).iter_rows())
    return [(row, fault) for row, fault in faults if fault]


def _doubtful(texts: pl.Series, languages: tuple[str, ...]) -> pl.DataFrame:
    """Number and text of those that have to be looked at one by one."""
    frame = texts.alias("text").to_frame().with_row_index("row").drop_nulls("text")
    if "en" not in languages:
        return frame
    column = pl.col("text")
    # For most captions one search for a handful of words is enough.
    english = column.str.count_matches(_ENGLISH_ONLY) * _CHARACTERS_A_MARK >= column.str.len_bytes()
    ascii_only = column.str.len_bytes() == column.str.len_chars()
    return frame.filter(~(english & ascii_only)).filter(~english | column.str.contains(_NOT_LATIN))


def _fault(text: str, languages: tuple[str, ...]) -> str:
    """Why a text is in none of the languages; "" if it may be."""
    words = _LETTERS.findall(text)
    if not text.isascii() and set(_OTHER_SCRIPTS.split()).isdisjoint(languages):
        letters = "".join(words)
        strange = sum(not _is_latin(letter) for letter in letters)
        if strange > MAX_FOREIGN_SCRIPT * len(letters):
            return f"{strange} of {len(letters)} letters are of another script"
    if len(words) < MIN_WORDS and text.isascii():
        return ""
    ranked = [(name, float(share)) for name, share in _identifier().rank(text)]
    likely, share = ranked[0]
    wanted = sum(one for name, one in ranked if name in languages)
    if len(words) < MIN_WORDS or wanted > MAX_WANTED or share < MIN_LIKELY or likely == NO_LANGUAGE:
        return ""
    return f"reads like {likely} (probability {share:.2f}; {' or '.join(languages)}: {wanted:.4f})"


def _is_latin(letter: str) -> bool:
    return letter < "\u0250" or "\u1e00" <= letter <= "\u1eff"


@cache
def _identifier() -> LanguageIdentifier:
    """The model, loaded once a process: 0.5 s and 100 MB."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
