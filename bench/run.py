"""Runs every benchmark of this folder and prints its figures. `make bench`.

A benchmark is a module with `main() -> dict[str, float | str]`; its docstring says what is compared with
what.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path


def main() -> int:
    """Run all, or those named on the command line."""
    folder = Path(__file__).resolve().parent
    sys.path.insert(0, str(folder.parent))
    names = sys.argv[1:] or sorted(path.stem for path in folder.glob("bench_*.py"))
    for name in names:
        module = importlib.import_module(f"bench.{name}")
        print(f"\n{name}: {(module.__doc__ or '').strip().splitlines()[0]}", flush=True)
        for key, value in module.main().items():
            print(
                f"  {key:<34} {value:.3g}" if isinstance(value, float) else f"  {key:<34} {value}", flush=True
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
