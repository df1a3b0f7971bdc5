"""`make cluster-rehearsal`: a team's servers on this machine, the graph through the page, servers killed.

Usage: ``python -m deployments.cluster_rehearsal [--short] [--loopback] [FOLDER]``. Without FOLDER a temporary
one is used, and removed when all went well. Exit status 1 and one message where anything was otherwise than
expected.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from deployments.cluster_rehearsal.kills import table
from deployments.cluster_rehearsal.machines import ServerError
from deployments.cluster_rehearsal.network import can_make_namespaces
from deployments.cluster_rehearsal.page import PageError
from deployments.cluster_rehearsal.walk import Walked, walk
from deployments.rehearsed import rehearsed, show_found, show_seconds

FAULTS = (PageError, ServerError, AssertionError, RuntimeError, FileNotFoundError)


def main() -> int:
    """Rehearse; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m deployments.cluster_rehearsal", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, help="an empty folder, which is kept")
    parser.add_argument("--short", action="store_true", help="one kill, and nothing run beside it")
    parser.add_argument("--loopback", action="store_true", help="no network namespaces")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)

    def walked(folder: Path) -> Walked:
        folder.chmod(0o755)  # PostgreSQL runs as a user of its own
        return walk(folder, short=given.short, namespaces=not given.loopback and can_make_namespaces())

    return rehearsed(walked, show, given.folder, "cluster-", FAULTS)


def show(walked: Walked) -> None:
    """Print what was found, and seconds by part."""
    show_found(walked.found)
    if walked.kills:
        print(f"\n{table(walked.kills)}")
    show_seconds(walked.seconds)
    print("\ncluster rehearsal passed", flush=True)


if __name__ == "__main__":
    sys.exit(main())
