"""URLs as they may be shown.

Belongs here: leaving out what is secret. Not here: opening them.
"""

from __future__ import annotations

import re

_USER = re.compile(r"(?<=://)[^/?#\s]*@")


def redacted_url(text: str) -> str:
    """A URL, or a text with URLs in it, with *** for user names and passwords."""
    return _USER.sub("***@", text)
