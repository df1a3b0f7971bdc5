"""Checks of shards: partitioned like the asset that they check, and in most cases blocking.

Belongs here: turning verdicts into partitioned Dagster checks. Does not belong here: what makes a shard bad
(`got_core.curate.verdict`), which the training manifest uses as well.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import dagster as dg
import polars as pl

from got_assets.reporting import readable_figures

CHECK_NAME = "few_enough_errors"


def partitioned_check(
    asset: dg.AssetsDefinition, partitions_def: dg.PartitionsDefinition, **options: Any
) -> Callable[[Callable[..., dg.AssetCheckResult]], dg.AssetChecksDefinition]:
    """`dg.asset_check` for one partition at a time.

    Dagster 1.13 marks partitioned checks as a preview; this helper is their only use.
    """

    def decorate(function: Callable[..., dg.AssetCheckResult]) -> dg.AssetChecksDefinition:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", dg.PreviewWarning)
            return dg.asset_check(asset=asset, partitions_def=partitions_def, **options)(function)

    return decorate


def shard_check(
    asset: dg.AssetsDefinition, partitions_def: dg.PartitionsDefinition, max_error_share: float
) -> dg.AssetChecksDefinition:
    """A blocking check of each shard of `asset`: at most `max_error_share` of its rows may be quarantined.

    A shard that fails stops its own downstream steps and is left out of the training manifest; every other
    shard goes on.
    """
    name = asset.key.to_user_string()
    text = f"At most {max_error_share:.0%} of a shard's rows may be quarantined; else the shard stops here."

    @partitioned_check(asset, partitions_def, name=CHECK_NAME, description=text, blocking=True)
    def check(shard: pl.DataFrame) -> dg.AssetCheckResult:
        from got_core.curate.verdict import shard_verdict

        verdict = shard_verdict({name: shard}, max_error_share)
        return dg.AssetCheckResult(
            passed=bool(verdict.ok), metadata=readable_figures(verdict.figures), description=verdict.text
        )

    return check
