"""`make rehearsal`: walks the published size's configuration at tiny sizes, and says what it saw.

Usage: ``python -m deployments.rehearsal [FOLDER]``. Without FOLDER a temporary one is used, and removed when
all went well. Exit status 1 and one message where anything was otherwise than expected.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from deployments.rehearsal.walk import Mismatch, Walked, walk
from deployments.rehearsed import rehearsed, show_found, show_seconds


def main() -> int:
    """Rehearse; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m deployments.rehearsal", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, help="an empty folder, which is kept")
    return rehearsed(walk, show, parser.parse_args().folder, "rehearsal-", (Mismatch, ModuleNotFoundError))


def show(walked: Walked) -> None:
    """Print what was found, and seconds by part."""
    show_found(walked.found)
    show_seconds(walked.seconds)
    print("\nrehearsal passed", flush=True)


if __name__ == "__main__":
    sys.exit(main())
