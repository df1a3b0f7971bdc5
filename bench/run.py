"""Runs benchmarks of this folder and prints their figures. `got bench`.

A benchmark is a module with `main() -> dict[str, float | str]`; its docstring says what is compared with
what.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path


def names() -> list[str]:
    """All benchmarks."""
    return sorted(path.stem for path in Path(__file__).resolve().parent.glob("bench_*.py"))


def check_names(chosen: Sequence[str]) -> None:
    """Raises ValueError for a name that is none."""
    if unknown := set(chosen) - set(names()):
        raise ValueError(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(names())}")


def run(chosen: Sequence[str]) -> None:
    """Run those named, or all."""
    for name in chosen or names():
        module = importlib.import_module(f"bench.{name}")
        print(f"\n{name}: {(module.__doc__ or '').strip().splitlines()[0]}", flush=True)
        for key, value in module.main().items():
            shown = f"{value:.3g}" if isinstance(value, float) else value
            print(f"  {key:<34} {shown}", flush=True)
