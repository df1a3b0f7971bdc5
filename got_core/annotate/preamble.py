"""Running text without what a chat model says around it.

Belongs here: introductions, headings, offers of further help, bold marks, quotation marks around all of it.
Not here: reasoning (`reasoning`), and what the text may hold (`replies`).

The rule for introductions: one ends at a line's end or at a colon that white space follows, has at most
120 characters, and consists of nothing but words with which a model speaks of its own reply. Either one of
them names the reply (`Here is a short caption of the image:`, `**Description:**`), or presents it (`Here is
one paragraph:`), or it is a courtesy of more than a word (`Sure, here you go:`). At a line's end without a
colon something has to follow. So `Here is a sign that says: Stop here.` stays whole, and so does every
colon of a time, a ratio, a URL or another language.
"""

from __future__ import annotations

import re

_MAX_CHARACTERS = 120
_MAX_INTRODUCTIONS = 3  # introductions, one behind the other
_REPLY_WORDS = """
    caption captions description descriptions prompt prompts answer response reply summary chain
    rewording rewordings wording wordings
"""
_REPLY = frozenset(_REPLY_WORDS.split())
"""Words that name the reply."""
_PRESENTED_WORDS = """
    paragraph paragraphs sentence sentences version versions result results attempt described see
"""
_PRESENTED = frozenset(_PRESENTED_WORDS.split())
_PRESENTS = frozenset(["here", "here's", "below", "following", "follows"])
"""Words that name it where one of these presents it."""
_COURTESY = frozenset(["sure", "certainly", "absolutely", "okay", "ok", "alright", "gladly", "understood"])
_COURTESIES = re.compile(
    r"(?:of course|no problem|got it|all right|with pleasure|here (?:you go|it is|they are|is what))\b"
)
_AROUND_WORDS = """
    a an the this that it its my your our one two three single short brief concise succinct detailed
    dense full complete comprehensive accurate simple possible suggested requested desired edited
    corrected revised numbered final new following below above here here's heres is are be can could
    will would i i'll i'd i've you you've we of for from about in on to as by with and or based
    image images picture pictures photo photograph scene illustration painting crop detail details
    object edit edits instruction instructions step steps paragraph sentence sentences phrase text
    list json format form word words english provided given shown attached uploaded asked request
    wanted describe describes describing generate generated generation write written like happy help
    let me what go have at they them thing course problem got all right pleasure please use used using person
    people might may type create creates recreate produce produces make such so vivid visual
    attempt described see seen follows version versions result results paragraphs
"""
_AROUND = frozenset(_AROUND_WORDS.split())
"""Words that may stand around those."""
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")  # noqa: RUF001
_FURTHER = re.compile(
    r"(?:\n\s*|(?<=[.!?])[ \t]+)(?:please )?(?:let me know (?:if|whether|what)|feel free to|"
    r"(?:i )?hope (?:this|that) (?:helps|description|caption)|if you(?:'d| would)? (?:like|need|want)|"
    r"would you like (?:me|a|any|to)|is there anything else|do you want me to)[^\n\"”»]{0,200}\Z",
    re.I,
)
_BOLD = re.compile(r"\*\*(?=\S)([^*\n]{1,2000}?)(?<=\S)\*\*")
_HEADING = re.compile(r"\A\s*#{1,6}[ \t]+")
_PAIRS = {'"': '"', "'": "'", "`": "`", "“": "”", "«": "»", "„": "“"}


def bare_text(reply: str) -> str:
    """The text that a reply is about."""
    text = _BOLD.sub(r"\1", reply.strip())
    for _ in range(_MAX_INTRODUCTIONS):
        shorter = _without_introduction(_HEADING.sub("", text))
        if shorter is None:
            break
        text = shorter
    return _unquoted(_FURTHER.sub("", text).strip())


def _without_introduction(text: str) -> str | None:
    """What follows an introduction; None where the text begins with none."""
    line, newline, rest = text.partition("\n")
    at = re.search(r":(?=\s|\Z)", line)
    if at is not None and _introduces(line[: at.start()], not line[at.end() :].strip()):
        return text[at.end() :].lstrip()
    if newline and rest.strip() and at is None and _introduces(line, True):
        return rest.lstrip()
    return None


def _introduces(text: str, newline: bool) -> bool:
    """Whether a text, with a line's end behind it or not, speaks of the reply that follows."""
    plain = text.lower().replace("’", "'")  # noqa: RUF001
    if len(text) > _MAX_CHARACTERS or any(mark in text for mark in '"“”«»'):
        return False
    words = _WORD.findall(plain)
    courteous = _COURTESIES.search(plain) is not None or not _COURTESY.isdisjoint(words)
    if not newline and len(words) < 2 and _REPLY.isdisjoint(words):
        return False
    own = all(word in _REPLY or word in _COURTESY or word in _AROUND or word.isdigit() for word in words)
    presented = not _PRESENTED.isdisjoint(words) and not _PRESENTS.isdisjoint(words)
    return own and (courteous or presented or not _REPLY.isdisjoint(words))


def _unquoted(text: str) -> str:
    """The text without quotation marks around all of it."""
    closing = _PAIRS.get(text[:1])
    if closing is None or len(text) < 2 or text[-1] != closing:
        return text
    inside = text[1:-1]
    return text if text[0] in inside or closing in inside else inside.strip()
