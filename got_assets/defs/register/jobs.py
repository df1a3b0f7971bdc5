"""`got promote` and `got rollback` as a job.

Belongs here: the job and its configuration. Not here: the rule and the moves (`got_core.registry`).
"""

# No postponed annotations here: Dagster looks at the annotation objects themselves.

from typing import Literal

import dagster as dg

from got_assets.defs.register.assets import MODEL_NAME
from got_assets.project import Project


class MoveConfig(dg.Config):
    """What to do with `@champion`."""

    action: Literal["promote", "rollback"] = "promote"
    version: str | None = None
    """To promote or to go back to. None: the challenger, by the recipe's rule; the champion before."""

    reason: str = ""
    """Why; needed for a version by name and for a roll-back."""


@dg.op(out=dg.Out(dg.Nothing))
def move_alias_champion(
    context: dg.OpExecutionContext, config: MoveConfig, project: dg.ResourceParam[Project]
) -> None:
    """Moves `@champion`, and notes it in the registry."""
    from got_assets.promotion import promote_challenger
    from got_core.registry.by_hand import promote_version, roll_back

    uri = project.settings.tracking_uri
    if config.action == "rollback":
        move = roll_back(MODEL_NAME, config.reason, uri, config.version)
        told = {"champion": move.version, "before": move.before or "", "reason": move.reason}
    elif config.version is not None:
        moved = promote_version(MODEL_NAME, config.version, config.reason, uri)
        told = {"champion": config.version, "reason": moved.reason if moved else "it is champion already"}
    else:
        decision = promote_challenger(project, MODEL_NAME, context.log.info)
        told = {"champion": str(decision.champion), "reason": decision.reason}
        if decision.markdown():
            context.add_output_metadata({"comparison": dg.MetadataValue.md(decision.markdown())})
    context.log.info(f"champion: version {told['champion']} ({told['reason']})")


@dg.job(executor_def=dg.in_process_executor)
def move_champion() -> None:
    """`@champion` by the recipe's rule, to a version by name, or back to the one before."""
    move_alias_champion()
