"""What is wrong with a setting, in one sentence that names its variable.

Belongs here: pydantic's errors in the user's words. Not here: the settings (`got_core.settings`).
"""

from __future__ import annotations

import re
from typing import Any

from pydantic import ValidationError
from pydantic_settings import BaseSettings

from got_core.server_settings import AnnotatorServer, JudgeServer
from got_core.settings import Settings

_SERVERS: tuple[type[BaseSettings], ...] = (AnnotatorServer, JudgeServer)
_ADVICE = "correct it in the environment or in .env"


def settings_sentence(error: Exception) -> str:
    """The sentence of a pydantic ValidationError or of a SettingsError, about `Settings`."""
    if isinstance(error, ValidationError):
        prefix = _prefix(next((one for one in _SERVERS if error.title == one.__name__), Settings))
        return "; ".join(_fault(one, prefix) for one in error.errors(include_url=False))
    found = re.search(r'field "(\w+)"', str(error))
    field = found[1] if found else ""
    prefix = _prefix(next((one for one in _SERVERS if field in one.model_fields), Settings))
    return f"{prefix}{field.upper()} must be JSON ({error.__cause__ or error}); {_ADVICE}"


def _prefix(settings: Any) -> str:
    return str(settings.model_config["env_prefix"])


def _fault(fault: Any, prefix: str) -> str:
    message = str(fault["msg"]).removeprefix("Value error, ")
    if not fault["loc"]:  # of several settings together: the message names them
        return message
    name = str(fault["loc"][0])
    variable = name if name.isupper() else prefix + name.upper()
    given = "" if name == "key" else f" is {str(fault['input'])[:80]!r}"
    return f"{variable}{given}: {message[:1].lower()}{message[1:]}; {_ADVICE}"
