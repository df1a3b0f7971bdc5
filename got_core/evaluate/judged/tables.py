"""Reading a TOML table key by key, with errors that name file and key.

Belongs here: types and unknown keys. Not here: what the keys mean (`definition`).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from got_core.evaluate.judged_names import DefinitionError

_MISSING = object()
MOST = 2**31 - 1
"""The largest number that a definition may have: what reads it later takes no larger ones."""


def is_number(value: Any) -> bool:
    """Whether a value is a number that scores can be made with: no NaN, not infinite, at most MOST."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and abs(value) <= MOST if isinstance(value, float) else abs(value) <= MOST


class Table:
    """One table of a definition. Every key has to be asked for before `done`."""

    def __init__(self, file: Path, data: Any, name: str = "") -> None:
        self.file, self.name, self._asked = file, name, set[str]()
        if not isinstance(data, Mapping):
            raise DefinitionError(f"{file}: `{name}` must be a table, got {data!r}")
        self._data = data

    def key(self, key: str) -> str:
        """Its full name, as errors say it."""
        return f"{self.name}.{key}" if self.name else key

    def fault(self, key: str, what: str) -> DefinitionError:
        """An error about a key."""
        return DefinitionError(f"{self.file}: `{self.key(key)}` {what}")

    def __contains__(self, key: str) -> bool:
        return key in self._data

    def __iter__(self) -> Iterator[str]:
        return iter(self._data)

    def raw(self, key: str, default: Any = _MISSING) -> Any:
        """The value as it is. Raises DefinitionError where there is none and no default."""
        self._asked.add(key)
        value = self._data.get(key, default)
        if value is _MISSING:
            raise self.fault(key, "is missing")
        return value

    def raw_all(self) -> Mapping[str, Any]:
        """The whole table as it is."""
        self._asked.update(self._data)
        return self._data

    def text(self, key: str, default: Any = _MISSING) -> str:
        """A text, not empty unless that is the default."""
        value = self.raw(key, default)
        if not isinstance(value, str) or (not value and default != ""):
            raise self.fault(key, f"must be a text, got {value!r}")
        return value

    def choice(self, key: str, known: Collection[str], default: Any = _MISSING) -> str:
        """One of these texts."""
        value = self.raw(key, default)
        if value not in known:
            raise self.fault(key, f"must be one of {', '.join(known)}, got {value!r}")
        return str(value)

    def flag(self, key: str, default: bool) -> bool:
        """true or false."""
        value = self.raw(key, default)
        if not isinstance(value, bool):
            raise self.fault(key, f"must be true or false, got {value!r}")
        return value

    def count(self, key: str, default: Any = _MISSING) -> Any:
        """A whole number of at least 1, at most MOST; or the default."""
        value = self.raw(key, default)
        whole = isinstance(value, int) and not isinstance(value, bool)
        if value is not default and not (whole and 1 <= value <= MOST):
            got = f"got {repr(value)[:40]}; it can be {MOST} at most"
            raise self.fault(key, f"must be a whole number of at least 1, {got}")
        return value

    def number(self, key: str, default: Any = _MISSING) -> float:
        """A number of at most MOST on either side of 0."""
        value = self.raw(key, default)
        if not is_number(value):
            raise self.fault(key, f"must be a number, got {repr(value)[:40]}; it can be {MOST} at most")
        return float(value)

    def texts(self, key: str, default: Any = _MISSING) -> tuple[str, ...]:
        """A list of texts."""
        value = self.raw(key, default)
        if not isinstance(value, list | tuple) or not all(isinstance(one, str) and one for one in value):
            raise self.fault(key, f"must be a list of texts, got {value!r}")
        return tuple(value)

    def mapping(self, key: str, default: Any = _MISSING) -> dict[str, str]:
        """A table of texts."""
        value = self.raw(key, default)
        if not isinstance(value, Mapping) or not all(isinstance(one, str) for one in value.values()):
            raise self.fault(key, f"must be a table of texts, got {value!r}")
        return dict(value)

    def path(self, key: str, default: Any = _MISSING) -> str:
        """A relative path with `/` that does not leave its folder."""
        value = self.text(key, default)
        path = PurePosixPath(value)
        if path.is_absolute() or ".." in path.parts or "\\" in value or not value.isprintable():
            raise self.fault(key, f"must be a path below its folder, without `..`, got {value!r}")
        return value

    def table(self, key: str, default: Any = _MISSING) -> Table:
        """A table in this one."""
        return Table(self.file, self.raw(key, default), self.key(key))

    def done(self) -> None:
        """Raises DefinitionError for a key that nobody asked for."""
        if unknown := [key for key in self._data if key not in self._asked]:
            known = ", ".join(sorted(self._asked))
            raise self.fault(unknown[0], f"is no key here; there are {known}")
