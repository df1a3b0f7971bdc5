"""What the phases of a whole run cost, in units of what is measured at a run's start.

Runs the graph of a recipe (BENCH_RECIPE, `embedded` unless given) in a home of its own, measures the machine
before and after, and writes the costs to the file from which `got run` estimates its time. Takes as long as
the run; nothing else should run meanwhile.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

RECIPE = os.environ.get("BENCH_RECIPE", "embedded")
_PACE = "import json; from got_core.budget.pace import pace; from got_core.recipes import get_recipe; "


def measured() -> dict[str, float]:
    """The machine's pace, by a process of its own."""
    code = f"{_PACE}print(json.dumps(pace(get_recipe({RECIPE!r}))))"
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> dict[str, float | str]:
    """Seconds and costs by phase."""
    from got_assets.project import git_commit
    from got_assets.run_estimate import RECORD, costs_of, write_costs

    with tempfile.TemporaryDirectory() as home:
        before = measured()
        command = [sys.executable, "-m", "got_assets.cli", "run", "--recipe", RECIPE]
        subprocess.run(command, env={**os.environ, "GOT_HOME": home}, check=True)
        after = measured()
        record = json.loads((Path(home) / RECORD).read_text())
    pace = {name: (before[name] + after[name]) / 2 for name in before}
    units = {phase: (probe, count) for phase, (probe, count) in record["units"].items()}
    costs = costs_of(record["seconds"], units, pace)
    about = {"commit": git_commit(), "cores": record["cores"], "pace": pace}
    write_costs(RECIPE, costs, about)
    shown = {f"{phase}, seconds": seconds for phase, seconds in record["seconds"].items()}
    drift = max(abs(after[name] / before[name] - 1) for name in before)
    return {**shown, "pace before and after, largest difference": f"{drift:.0%}"}
