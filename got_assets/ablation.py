"""`got ablation`: makes what is missing of the ablation, and of the data and models that it starts from.

Belongs here: the order of work and what is printed at the end. Does not belong here: how assets are brought
up to date (`run`), or what the ablation is (`got_core.ablation`).
"""

from __future__ import annotations

import dagster as dg

from got_assets.defs.evaluate.ablation import PLOT, START
from got_assets.project import Project
from got_assets.reporting import log_progress
from got_assets.run import data_is_made
from got_assets.run_report import heading, report_failures
from got_assets.runner import Runner
from got_assets.scored import check_ablation
from got_assets.tables import text_table

ABLATION_ASSETS = ("training_manifest", START, "ablation_runs", "ablation")


def ablate(project: Project, instance: dg.DagsterInstance) -> int:
    """Data, foundation models, runs and table. Returns 0, or 1 where there is no table of the present
    recipe."""
    check_ablation(project)
    runner = Runner(project, instance)
    if not data_is_made(runner):
        return 1
    heading("Ablation")
    outcome = runner.bring_up_to_date(ABLATION_ASSETS)
    heading("What came out")
    report_failures(runner.outcomes, runner.paused)
    if outcome.error or outcome.blocked:
        return 1
    print_table(project)
    return 0


def print_table(project: Project) -> None:
    """The ablation's table, what stands in it, and where its plot is."""
    from got_core.ablation.table import HEADER, spelled

    table = project.storage.read_table("ablation")
    print(text_table(HEADER, spelled(table)), "\n", flush=True)
    log_progress("score: overall of `geneval/scenes`, mean and standard deviation over the seeds")
    log_progress("edits: the same of `edits/scenes`; edit trace: levels of 255 where an object has left")
    log_progress("published: GenEval in the paper's table 3, another protocol")
    log_progress(f"plot      {project.storage.url_of(PLOT)}")
    log_progress(f"storage   {project.settings.storage_url}")
