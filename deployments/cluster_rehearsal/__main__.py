"""`make cluster-rehearsal`: a team's servers on this machine, the graph through the page, servers killed.

Usage: ``python -m deployments.cluster_rehearsal [--short] [--loopback] [FOLDER]``. Without FOLDER a temporary
one is used, and removed when all went well. Exit status 1 and one message where anything was otherwise than
expected.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from deployments.cluster_rehearsal.kills import table
from deployments.cluster_rehearsal.machines import ServerError
from deployments.cluster_rehearsal.network import can_make_namespaces
from deployments.cluster_rehearsal.page import PageError
from deployments.cluster_rehearsal.walk import Walked, walk


def main() -> int:
    """Rehearse; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m deployments.cluster_rehearsal", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, help="an empty folder, which is kept")
    parser.add_argument("--short", action="store_true", help="one kill, and nothing run beside it")
    parser.add_argument("--loopback", action="store_true", help="no network namespaces")
    given = parser.parse_args()
    if given.folder is not None and given.folder.exists() and any(given.folder.iterdir()):
        sys.stderr.write(f"{given.folder} is not empty: name a new folder\n")
        return 2
    folder = (given.folder or Path(tempfile.mkdtemp(prefix="cluster-"))).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)  # PostgreSQL runs as a user of its own
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        walked = walk(folder, short=given.short, namespaces=not given.loopback and can_make_namespaces())
    except (PageError, ServerError, AssertionError, RuntimeError, FileNotFoundError) as error:
        sys.stderr.write(f"\nthe rehearsal FAILED: {error}\nits files are in {folder}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write(f"\ninterrupted; its files are in {folder}\n")
        return 130
    show(walked)
    if given.folder is None:
        shutil.rmtree(folder)
    return 0


def show(walked: Walked) -> None:
    """Print what was found, and seconds by part."""
    print("\nWhat was found")
    for what, found in walked.found:
        print(f"  {what}: {found}")
    if walked.kills:
        print(f"\n{table(walked.kills)}")
    print("\nSeconds by part")
    for part, seconds in walked.seconds.items():
        print(f"  {part:<32}{seconds:8.1f}")
    print(f"  {'all':<32}{sum(walked.seconds.values()):8.1f}\n\ncluster rehearsal passed", flush=True)


if __name__ == "__main__":
    sys.exit(main())
