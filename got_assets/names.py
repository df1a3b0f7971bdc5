"""What values of assets are called in the storage.

Belongs here: names. Not here: reading and writing values (`io`).
"""

from __future__ import annotations


def value_name(asset: str, partition: str | None = None) -> str:
    """Storage name of an asset's value, without suffix: `captions/images-00000`, `geneval`."""
    return f"{asset}/{partition}" if partition else asset
