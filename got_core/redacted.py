"""URLs and commands as they may be shown.

Belongs here: leaving out what is secret. Not here: opening them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_SECRET = r"(?:key|token|secret|password|passwd|credential|signature)"
_OPTION = re.compile(rf"-[\w-]*{_SECRET}[\w-]*", re.IGNORECASE)
_VALUE = re.compile(rf"([\w-]*{_SECRET}[\w-]*[=:])[^&\s]+", re.IGNORECASE)
_USER = re.compile(r"(?<=://)[^/?#\s]*@")


def redacted_url(text: str) -> str:
    """A URL, or a text with URLs in it, with *** for user names and passwords."""
    return _USER.sub("***@", text)


def redacted_command(arguments: Sequence[str]) -> list[str]:
    """A command with *** for user names and passwords in URLs, and for values of options, settings and
    query parameters whose name speaks of a key, token, secret, password, credential or signature."""
    shown: list[str] = []
    hidden = False
    for argument in arguments:
        shown.append("***" if hidden else _VALUE.sub(r"\1***", redacted_url(argument)))
        hidden = bool(_OPTION.fullmatch(argument))
    return shown
