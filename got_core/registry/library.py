"""The library that goes along with an entry, so that it still loads when the code has moved on.

Belongs here: which files go along, their hash, and the form in which they go. Not here: the upload (`log`).
"""

from __future__ import annotations

import hashlib
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import got_core
from got_core.model.formats.foundation_folder import PACKAGED

ROOT = Path(got_core.__file__).parent
_PACKED = "library.zip"
_READS_PACKED = f"""
from pathlib import Path as _Path

# All other modules are in one file: a server is asked for each file of an entry on its own.
__path__ = [str(_Path(__file__).with_name("{_PACKED}") / "{ROOT.name}")]
"""
_OLDEST = (1980, 1, 1, 0, 0, 0)
"""The date of all files in it, so that the same library is the same bytes."""


def library_hash() -> str:
    """Of names and contents of what goes along: 64 hexadecimal digits."""
    code = hashlib.sha256()
    for name, path in _files():
        code.update(f"{name}\0".encode())
        code.update(hashlib.sha256(path.read_bytes()).digest())
    return code.hexdigest()


@contextmanager
def packed_library() -> Iterator[Path]:
    """A folder that is imported as this library, of two files, while it is open."""
    with tempfile.TemporaryDirectory() as above:
        folder = Path(above, ROOT.name)
        folder.mkdir()
        with zipfile.ZipFile(folder / _PACKED, "w", zipfile.ZIP_DEFLATED) as packed:
            for name, path in _files():
                packed.writestr(
                    zipfile.ZipInfo(f"{ROOT.name}/{name}", _OLDEST), path.read_bytes(), zipfile.ZIP_DEFLATED
                )
        (folder / "__init__.py").write_bytes((ROOT / "__init__.py").read_bytes() + _READS_PACKED.encode())
        yield folder


def _files() -> Iterator[tuple[str, Path]]:
    """All but the foundation weights that come with the library: an entry has weights of its own."""
    for path in sorted(ROOT.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts and PACKAGED not in path.parents:
            yield path.relative_to(ROOT).as_posix(), path
