"""What the scene annotator's answers depend on.

Apart from the annotator, which takes SciPy: the graph looks at the revision each time it loads.
"""

from __future__ import annotations

import hashlib

from got_core.scenes.config import DEFAULT_READER, ReaderConfig

SCENES = "scenes"
"""The annotator's name in settings."""

VERSION = 1
"""Raise it when the same image gives other texts or boxes."""


def scene_revision(config: ReaderConfig = DEFAULT_READER) -> str:
    """Version of the wording and the reader's limits."""
    limits = hashlib.sha256(repr(config).encode()).hexdigest()[:8]
    return f"{SCENES}-{VERSION}-{limits}"
