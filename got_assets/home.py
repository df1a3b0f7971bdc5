"""Dagster's own folder: DAGSTER_HOME below GOT_HOME, with the settings of `got_assets/instance`.

Belongs here: making it once, also where several processes start together, and at a path that Dagster can
use. Not here: what is kept in it.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

from got_assets.pools import TRAINING
from got_assets.project import INSTANCE, Project
from got_assets.reporting import log_progress

_MISREAD = re.compile(r"%[0-9a-fA-F]{2}|[?*\[]")
"""What SQLAlchemy 2.1 decodes, or cuts a path at, in the database URLs that Dagster 1.13 makes of paths; and
what makes a path a pattern where Dagster looks for the databases of its runs."""

_FORMER = {
    "9e47a80b9598450889174ecd866fb9b4ff4b80fce20437fa6c000265011122e2",
    "79b71f1f43711114a0ca96d2e51e499338ed4b107658b73160e2c41c28fc37fb",
    "ca9a659d8587c01d3684731ed80f3cbf5f7916a82e151c18dde197ed0cddd881",
}
"""SHA-256 of dagster.yaml as it was copied before: where nobody has changed it, it is renewed."""

_READY = ".made-by-dagster"
_LOCK_SECONDS = 300.0
"""Seconds to wait for another process that makes the folder; it takes some."""


def prepare_dagster_home(project: Project) -> Path:
    """Make `$GOT_HOME/dagster` (unless DAGSTER_HOME names another place), set DAGSTER_HOME, and return the
    folder.

    Settings are copied once and then belong to the user. Dagster's databases are made here, by one process:
    their first start in several fails.

    Raises:
        FileNotFoundError: this is no source checkout.
        TimeoutError: another process has been making the folder for minutes.
        ValueError: neither the folder nor the cache folder has a path that Dagster can use.
    """
    home = Path(os.environ.get("DAGSTER_HOME") or project.settings.home / "dagster").absolute()
    home.mkdir(parents=True, exist_ok=True)
    os.environ["DAGSTER_HOME"] = str(_usable_path(home))
    with _locked(home):
        _give_settings(home / "dagster.yaml")
        ready = home / _READY
        if not ready.exists() or ready.read_text() != dg.__version__:
            with dg.DagsterInstance.get() as instance:
                # Where more runs at once are allowed, there still is one training.
                instance.event_log_storage.set_concurrency_slots(TRAINING, 1)
            ready.write_text(dg.__version__)
    return home


def _give_settings(target: Path) -> None:
    """Copy the settings of the instance, unless there are some that somebody has changed."""
    source = INSTANCE / "dagster.yaml"
    if not target.exists():
        _copy(source, target)
    elif hashlib.sha256(text := target.read_bytes()).hexdigest() in _FORMER:
        _copy(source, target)
        log_progress(f"{target} was as it came and is renewed: the daemon now notices runs that were killed")
    elif b"LocalRunLauncher" not in text:
        log_progress(
            f"{target} was changed and stays: take run_launcher, run_monitoring and run_retries over from "
            f"{source}, so that the daemon notices runs that were killed"
        )


def _copy(source: Path, target: Path) -> None:
    partial = target.with_name(f".{target.name}.partial")
    shutil.copyfile(source, partial)
    os.replace(partial, target)


@contextmanager
def _locked(home: Path) -> Iterator[None]:
    """Held by one process at a time; the system lets go of it when a process is killed."""
    with open(home / ".lock", "w") as file:
        deadline = time.monotonic() + _LOCK_SECONDS
        logged = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise TimeoutError(
                        f"another process has held {file.name} for {_LOCK_SECONDS:.0f} s; end it and try "
                        "again"
                    ) from None
                if not logged:
                    log_progress(f"waiting for another process that makes {home}")
                logged = True
                time.sleep(0.1)
            except OSError as error:
                if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP):
                    raise
                break  # a network folder without locks: one process at a time is then up to the user
        yield


def _usable_path(home: Path) -> Path:
    """The folder itself, or a link to it in the cache folder whose path no database URL misreads."""
    if not _MISREAD.search(str(home)):
        return home
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "got" / "dagster"
    link = cache / hashlib.sha256(str(home).encode()).hexdigest()[:16]
    if found := _MISREAD.search(str(link)):
        raise ValueError(
            f"Dagster cannot keep its databases in {home}: it misreads {found.group()!r} in a path; "
            "set DAGSTER_HOME to a folder without"
        )
    cache.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial = link.with_name(f".{link.name}.{os.getpid()}")
    partial.unlink(missing_ok=True)
    partial.symlink_to(home)
    os.replace(partial, link)  # whatever it pointed to before
    return link
