"""`make rehearsal`: walks the published size's configuration at tiny sizes, and says what it saw.

Usage: ``python -m deployments.rehearsal [FOLDER]``. Without FOLDER a temporary one is used, and removed when
all went well. Exit status 1 and one message where anything was otherwise than expected.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from deployments.rehearsal.walk import Mismatch, Walked, walk


def main() -> int:
    """Rehearse; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m deployments.rehearsal", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, help="an empty folder, which is kept")
    given = parser.parse_args().folder
    if given is not None and given.exists() and any(given.iterdir()):
        sys.stderr.write(f"{given} is not empty: name a new folder\n")
        return 2
    folder = (given or Path(tempfile.mkdtemp(prefix="rehearsal-"))).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        walked = walk(folder)
    except (Mismatch, ModuleNotFoundError) as error:
        sys.stderr.write(f"\nthe rehearsal FAILED: {error}\nits files are in {folder}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write(f"\ninterrupted; its files are in {folder}\n")
        return 130
    show(walked)
    if given is None:
        shutil.rmtree(folder)
    return 0


def show(walked: Walked) -> None:
    """Print what was found, and seconds by part."""
    print("\nWhat was found")
    for what, found in walked.found:
        print(f"  {what}: {found}")
    print("\nSeconds by part")
    for part, seconds in walked.seconds.items():
        print(f"  {part:<24}{seconds:8.1f}")
    print(f"  {'all':<24}{sum(walked.seconds.values()):8.1f}\n\nrehearsal passed", flush=True)


if __name__ == "__main__":
    sys.exit(main())
