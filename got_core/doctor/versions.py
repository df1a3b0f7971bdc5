"""Installed packages against the ranges that this project asks for.

Belongs here: reading what is installed. Not here: whether it works.
"""

from __future__ import annotations

from importlib import metadata

DISTRIBUTION = "got"


def own_version() -> str:
    """Version of this project; `unknown` where it runs without being installed."""
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "unknown (not installed)"
