"""Digests of configurations, by which stored results tell whether they are up to date."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import MISSING, Field, asdict, field, fields, is_dataclass
from typing import Any

_EXECUTION = "execution"


def digest(config: Any) -> str:
    """Twelve hex digits that change when any value of a configuration changes.

    Takes dataclasses, and JSON values or lists of dataclasses. Names of classes and modules do not count.
    """
    text = json.dumps(_plain(config), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def execution(default: Any = MISSING, *, factory: Callable[[], Any] | None = None, shown: bool = True) -> Any:
    """A dataclass field that changes no result: how work is spread, waited for and paid, or where things are.

    It is left out of what stored results depend on (``results``). ``factory`` makes a default that is no
    plain value; a field that is not ``shown`` is left out of the configuration's repr.
    """
    made = {"default_factory": factory} if factory else {"default": default}
    return field(**made, repr=shown, metadata={_EXECUTION: True})  # type: ignore[call-overload]


def is_execution(one: Field[Any]) -> bool:
    """Whether a field of a dataclass is marked with ``execution``."""
    return bool(one.metadata.get(_EXECUTION))


def results(config: Any) -> Any:
    """A configuration as plain values, whose ``execution`` fields have their defaults.

    Two configurations that give the same results are equal so. Defaults in place of nothing: a field that is
    marked later leaves digests of those who never changed it as they were.
    """
    if is_dataclass(config) and not isinstance(config, type):
        return {one.name: _result(config, one) for one in fields(config)}
    if isinstance(config, dict):
        return {key: results(value) for key, value in config.items()}
    return [results(value) for value in config] if isinstance(config, list | tuple) else config


def _result(config: Any, one: Field[Any]) -> Any:
    if not is_execution(one):
        return results(getattr(config, one.name))
    if one.default_factory is not MISSING:
        return one.default_factory()
    return None if one.default is MISSING else one.default


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
