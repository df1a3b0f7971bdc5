"""Bytes of pictures that are no plain files of the user's: kept once in the project's storage, by content.

Belongs here: the name of a stored picture and writing it. Reading is ``reader``'s.
"""

from __future__ import annotations

import hashlib

from got_core.corpus.inputs import STORE
from got_core.storage import Storage

FOLDER = "stored_images"
_SUFFIX = {"JPEG": "jpg", "JPEG2000": "jp2", "JPEGXL": "jxl", "TIFF": "tif"}


def store_path(image_id: str, kind: str) -> str:
    """The path by which tables know a stored picture: ``store://ab/abcd....jpg``."""
    return f"{STORE}://{image_id[:2]}/{image_id}.{_SUFFIX.get(kind, kind.lower())}"


def store_picture(storage: Storage, data: bytes, kind: str) -> str:
    """Store the bytes unless they are there already; returns their path. Equal bytes are stored once."""
    path = store_path(hashlib.sha256(data).hexdigest(), kind)
    storage.add_bytes(stored_name(path), data)
    return path


def stored_name(path: str) -> str:
    """The storage's own name of a ``store://`` path, such as takedown needs to delete it."""
    return f"{FOLDER}/{path.removeprefix(STORE + '://')}"
