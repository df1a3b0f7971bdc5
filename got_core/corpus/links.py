"""Which symbolic links are followed: those that stay below the given root, or in its Hugging Face cache.

A repository in that cache is a folder ``datasets--org--name`` with ``snapshots/<revision>/...``, whose files
are links into its ``blobs``. Belongs here: that layout, and the reason for a link that is not followed.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

CACHE_PARTS = ("blobs", "refs")
"""Folders of a cached repository that hold what its snapshots link to."""

_REPOSITORY = re.compile(r"[a-z]+s--.+")


def is_cached_repository(folder: Path) -> bool:
    """Whether a folder is a repository in a Hugging Face cache."""
    if not _REPOSITORY.fullmatch(folder.name):
        return False
    return all(
        (folder / name).is_dir() and not (folder / name).is_symlink() for name in ("blobs", "snapshots")
    )


def allowed_folders(root: Path) -> tuple[Path, ...]:
    """Where links below a root (itself free of links) may lead: the root, and the blobs of its snapshot."""
    for folder in (root, *root.parents):
        if folder.name == "snapshots" and is_cached_repository(folder.parent):
            return root, folder.parent / "blobs"
    return (root,)


def is_within(path: str, folders: tuple[Path, ...]) -> bool:
    """Whether a path without links lies in one of the folders."""
    return any(os.path.commonpath([path, folder]) == str(folder) for folder in folders)


def refusal(target: str, root: Path) -> str:
    """The reason for refusing a link that leads to `target`, out of the root."""
    return (
        f"a symbolic link leads to {target[:300]!r}, outside of {str(root)!r}; copy the files themselves "
        "there (cp -rL), or give the folder that holds both, or the link's target as another entry of a list "
        "of inputs (.toml)"
    )
