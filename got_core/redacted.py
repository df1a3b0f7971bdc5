"""URLs as they may be shown.

Belongs here: leaving out what is secret. Not here: opening them.
"""

from __future__ import annotations

import re

_USER = re.compile(r"(?<=://)[^/?#\s]*@")


def redacted_url(url: str) -> str:
    """The URL with *** for a user name and password in it."""
    return _USER.sub("***@", url)
