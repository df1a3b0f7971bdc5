"""Whether the nodes that train can: the checks before training, as findings.

Belongs here: their form. Not here: the checks (`got_core.train.preflight`).
"""

from __future__ import annotations

from got_core.doctor.finding import Finding, fail, ok, warn
from got_core.train.run import TrainingRun


def check_training(run: TrainingRun) -> list[Finding]:
    """Findings of every node of the run's cluster, or of this machine without one."""
    from got_core.train.ray.preflight import look_at_nodes

    try:
        findings = look_at_nodes(run)
    except Exception as error:  # whatever keeps the driver from looking
        return [fail("training", f"{type(error).__name__}: {error}", "correct it, then look again")]
    lines = [
        fail(f"training: {fault.what}", f"{node}: {fault.found}; needed: {fault.needed}", fault.advice)
        for node, faults in findings.faults.items()
        for fault in faults
    ]
    for node, warnings in findings.warnings.items():
        lines += [warn("training", f"{node}: {line}", "see docs/training.md") for line in warnings]
    fine = [node for node in findings.nodes if not findings.faults[node]]
    return lines + [ok("training", f"{node}: {findings.nodes[node].summary()}") for node in fine]
