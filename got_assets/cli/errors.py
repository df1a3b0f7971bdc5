"""What an error says, in one sentence, and the exit status that goes with it.

Belongs here: telling errors of the user's making from those of the program. Not here: raising any.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer

from got_core.doctor.finding import LIGHT_CORE
from got_core.redacted import redacted_url

FAILED, USAGE, INTERRUPTED = 1, 2, 130

UsageError: Any = typer.BadParameter.__base__
"""Of click, which newer releases of Typer carry along under a private name."""

OWN = ("got_core", "got_assets", "bench")


@contextmanager
def usage_errors() -> Iterator[None]:
    """A ValueError inside is one of how the command was called."""
    try:
        yield
    except ValueError as error:
        raise UsageError(str(error)) from error


def status_of(error: Exception) -> int | None:
    """Exit status of an error that a person can do something about; None for a fault of the program."""
    if _is_settings_error(error):
        return USAGE
    if isinstance(error, ModuleNotFoundError):
        return FAILED if _missing(error) else None
    if isinstance(error, (OSError, ValueError, MemoryError)):
        return FAILED
    return FAILED if _written_here(error) else None


def sentence_of(error: Exception) -> str:
    """What went wrong, and what to do where that is known."""
    if _is_settings_error(error):
        from got_core.settings_errors import settings_sentence

        return settings_sentence(error)
    if isinstance(error, ModuleNotFoundError) and (name := _missing(error)):
        return f"this needs {name}, which is not installed: {LIGHT_CORE}"
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    text = redacted_url(" ".join(str(error).split())) or type(error).__name__
    if isinstance(error.__cause__, ImportError):
        text = f"{text}: {LIGHT_CORE}"
    return text if status_of(error) else f"this is a fault of the program: {type(error).__name__}: {text}"


def usage_sentence(error: Any) -> str:
    """What is wrong with a call, and where its help is."""
    message = error.format_message().strip().rstrip(".")
    if error.ctx is None:
        return message
    return f"{error.ctx.command_path}: {message}; see `{error.ctx.command_path} --help`"


def _missing(error: ModuleNotFoundError) -> str | None:
    """The package that is not installed; None where a module of our own is missing."""
    name = (error.name or "").partition(".")[0]
    return None if not name or name in OWN else name


def _written_here(error: Exception) -> bool:
    """Errors of this project, and those of MLflow and torch, which are slow to import."""
    names = {kind.__name__ for kind in type(error).__mro__}
    known = names & {"MlflowException", "OutOfMemoryError"}
    return bool(known) or type(error).__module__.partition(".")[0] in OWN


def _is_settings_error(error: Exception) -> bool:
    """Whether pydantic refused a GOT_* variable."""
    return type(error).__module__.startswith("pydantic") and isinstance(error, ValueError)
