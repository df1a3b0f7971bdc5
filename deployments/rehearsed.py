"""What rehearsals do around their walk: a folder, one sentence for what went wrong, what was found.

Belongs here: the frame of their commands. Not here: what they walk (`rehearsal`, `cluster_rehearsal`).
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

W = TypeVar("W")


def rehearsed(
    walk: Callable[[Path], W],
    show: Callable[[W], None],
    given: Path | None,
    prefix: str,
    faults: tuple[type[Exception], ...],
) -> int:
    """Walk in an empty folder, show what came out, and return the exit status.

    `given` is kept; without it a temporary folder, whose name begins with `prefix`, is used, and removed when
    all went well. `faults`: what says in its own words what was otherwise than expected.
    """
    if given is not None and given.exists() and any(given.iterdir()):
        sys.stderr.write(f"{given} is not empty: name a new folder\n")
        return 2
    folder = (given or Path(tempfile.mkdtemp(prefix=prefix))).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        walked = walk(folder)
    except faults as error:
        sys.stderr.write(f"\nthe rehearsal FAILED: {error}\nits files are in {folder}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write(f"\ninterrupted; its files are in {folder}\n")
        return 130
    show(walked)
    if given is None:
        shutil.rmtree(folder)
    return 0


def show_found(found: Iterable[tuple[str, object]]) -> None:
    """Print what was found, a line each."""
    print("\nWhat was found")
    for what, one in found:
        print(f"  {what}: {one}")


def show_seconds(seconds: Mapping[str, float]) -> None:
    """Print seconds by part, and all together."""
    width = max(24, *(len(part) + 2 for part in seconds))
    print("\nSeconds by part")
    for part, one in [*seconds.items(), ("all", sum(seconds.values()))]:
        print(f"  {part:<{width}}{one:8.1f}")
