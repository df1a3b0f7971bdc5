"""What a stage's mixture draws from a table of samples: rows, shares, epochs.

Belongs here: how many rows a group of a mixture has, and how shares follow from them; for the trainer, for
the manifest and for what is ingested and not annotated yet. Not here: the shares themselves (``config``), a
file of them (``mixture_file``), which rows they are (``data.manifest``), and which row is drawn when
(``data.batches``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import polars as pl

from got_core.chain.edits import names_objects, read_edit_chain
from got_core.chain.grammar import ChainError, parse
from got_core.recipes import Recipe
from got_core.train.config import KINDS, group_fault

MANIFEST, INGESTED = "the manifest", "what is ingested"
"""What a table holds the samples of, as errors name it."""
SOURCES_SHOWN = 20
"""Sources of a kind that an error lists, the largest first."""
TURNS = ("single", "multi", "single-reasoning", "multi-reasoning")
"""Turns of an edit, and whether its instruction needs reasoning (see :func:`turns_of`)."""
HEADER = ("stage", "group", "rows", "share in the recipe", "share of draws", "samples", "epochs")

_SOURCES: dict[str, pl.DataType] = {
    "kind": pl.String(),
    "turns": pl.String(),
    "source": pl.String(),
    "rows": pl.Int64(),
}
"""Of a table of sources: kind; TURNS of an edit, null where they are not known; source, null where none is
stated; and how many rows."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """A group of a stage's mixture and what the stage makes of it."""

    name: str
    rows: int
    asked: float
    """Its share in the recipe."""
    share: float
    """Its share of draws, once those of absent kinds went to the others."""
    samples: float
    """Samples over the stage's steps, repeats counted; the expected number."""

    @property
    def epochs(self) -> float:
        """How often each of its rows is drawn on average; 0 where it has none."""
        return self.samples / self.rows if self.rows else 0.0


# -- tables of sources ------------------------------------------------------------------------------------


def sources_of(manifest: pl.DataFrame, groups: Iterable[str]) -> pl.DataFrame:
    """Kind, turns, source and ``rows`` = 1 of each row of a manifest, in its order.

    Chains are read only where ``groups`` ask for turns. One that is no edit chain counts as a single turn.
    """
    source = pl.col("source") if "source" in manifest.columns else pl.lit(None, pl.String)
    table = manifest.select("kind", source.alias("source"), rows=pl.lit(1, pl.Int64))
    turns: list[str | None] = [None] * table.height
    if any(group_kind(name) not in KINDS for name in groups):
        edits = (manifest["kind"] == "edit").to_list()
        texts = zip(edits, manifest["chain"], manifest["prompt"], strict=True)
        turns = [turns_of(chain, instruction) if e else None for e, chain, instruction in texts]
    return table.with_columns(turns=pl.Series(turns, dtype=pl.String)).select(list(_SOURCES))


def counted(tables: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Tables of sources as one, with a row for each kind, turns and source."""
    every = pl.concat([pl.DataFrame(schema=_SOURCES), *tables])
    return every.group_by("kind", "turns", "source").agg(pl.col("rows").sum()).sort("kind", "turns", "source")


def ingested_sources(table: pl.LazyFrame, kind: str) -> pl.DataFrame:
    """Sources of the good rows of an ingested table, whose samples will be of a kind; turns are not known."""
    good = table.filter(pl.col("error").is_null()).group_by("source").agg(rows=pl.len().cast(pl.Int64))
    shaped = good.with_columns(kind=pl.lit(kind), turns=pl.lit(None, pl.String))
    return shaped.select(list(_SOURCES)).collect()


def turns_of(chain: str, instruction: str) -> str:
    """TURNS of an edit, by its chain and whether the instruction names the chain's objects.

    What is no edit chain counts as a single turn.
    """
    try:
        plan = read_edit_chain(parse(chain))
    except ChainError:
        return "single"
    turns = "multi" if len(plan.steps) > 1 else "single"
    return turns if names_objects(plan, instruction) else f"{turns}-reasoning"


# -- what a mixture makes of them -------------------------------------------------------------------------


def resolve(
    sources: pl.DataFrame, mixture: Mapping[str, float], samples: int = 0, where: str = MANIFEST
) -> tuple[Group, ...]:
    """The groups of a mixture over a table of sources, in the mixture's order.

    An edit whose turns are not known counts in both groups of turns.

    Args:
        sources: as of :func:`sources_of` or :func:`counted`.
        mixture: shares by group (see ``StageConfig.mixture``).
        samples: how many the stage draws over all steps.
        where: what the table is of, for errors.

    Raises ValueError for a name that is no group, for a source that no row of the kind has (it lists those
    that there are), and where no group has a row.
    """
    if faults := [fault for name in mixture if (fault := _fault(sources, name, where))]:
        raise ValueError(f"{'; '.join(faults)}. {sources_text(sources, where)}")
    rows = {name: int(sources.filter(_belongs(name))["rows"].sum()) for name in mixture}
    present = sum(share for name, share in mixture.items() if rows[name])
    if not present:
        raise ValueError(
            f"{where} has no row of the mixture {dict(mixture)}. {sources_text(sources, where)}; "
            "change the mixture (GOT_MIXTURE), or add such data"
        )
    shares = {name: share / present if rows[name] else 0.0 for name, share in mixture.items()}
    return tuple(
        Group(name=name, rows=rows[name], asked=asked, share=shares[name], samples=shares[name] * samples)
        for name, asked in mixture.items()
    )


def resolve_stages(
    recipe: Recipe, sources: pl.DataFrame, where: str = MANIFEST
) -> dict[str, tuple[Group, ...]]:
    """The groups of all stages of a recipe, by the stage's name.

    Raises one ValueError for all stages whose mixture does not go with the table.
    """
    resolved, faults = {}, []
    for stage in recipe.stages:
        config = stage.config
        try:
            samples = config.steps * config.samples_per_step
            resolved[stage.name] = resolve(sources, config.mixture, samples, where)
        except ValueError as error:
            faults.append(f"stage {stage.name}: {error}")
    if faults:
        raise ValueError("\n".join(faults))
    return resolved


def groups_of(recipe: Recipe) -> list[str]:
    """The groups that any stage of a recipe draws from."""
    return list(dict.fromkeys(name for stage in recipe.stages for name in stage.config.mixture))


def mixture_table(resolved: Mapping[str, Iterable[Group]]) -> list[tuple[str, ...]]:
    """Cells below HEADER of what :func:`resolve_stages` gives."""
    return [
        (
            stage,
            group.name,
            f"{group.rows:,}",
            f"{group.asked:.3f}",
            f"{group.share:.3f}",
            f"{group.samples:,.0f}",
            f"{group.epochs:.2f}",
        )
        for stage, groups in resolved.items()
        for group in groups
    ]


def group_kind(name: str) -> str:
    """The name of a group without the source that it may end with."""
    return name.partition("/")[0]


def turns_in(kind: str) -> list[str]:
    """The TURNS of a group that is not of a whole kind."""
    if kind == "reasoning":
        return [one for one in TURNS if one.endswith(kind)]
    return [one for one in TURNS if one.startswith(kind.removesuffix("-turn"))]


def sources_text(sources: pl.DataFrame, where: str = MANIFEST) -> str:
    """The sources of a table by kind with their rows, the largest first, in one sentence."""
    return f"{where[:1].upper()}{where[1:]} has {'; '.join(_kind_text(sources, kind) for kind in KINDS)}"


def _kind_text(sources: pl.DataFrame, kind: str) -> str:
    rows = sources.filter(pl.col("kind") == kind).group_by("source").agg(pl.col("rows").sum())
    found = list(rows.sort("rows", "source", descending=[True, False]).iter_rows())
    if not found:
        return f"no {kind} rows"
    named = [f"{name if name is not None else '(not stated)'} {count:,}" for name, count in found]
    more = f" and {len(named) - SOURCES_SHOWN} more" if len(named) > SOURCES_SHOWN else ""
    return f"{kind} rows of {', '.join(named[:SOURCES_SHOWN])}{more}"


def _belongs(name: str) -> pl.Expr:
    """Whether a row of a table of sources is of a group."""
    kind, _, source = name.partition("/")
    belongs = pl.col("kind") == (kind if kind in KINDS else "edit")
    if kind not in KINDS:
        belongs &= pl.col("turns").is_in(turns_in(kind)).fill_null(True)
    if source:
        belongs &= (pl.col("source") == source).fill_null(False)
    return belongs


def _fault(sources: pl.DataFrame, name: str, where: str) -> str | None:
    if fault := group_fault(name):
        return fault
    kind, _, source = name.partition("/")
    if not source or not sources.filter(_belongs(name)).is_empty():
        return None
    return f"mixture group {name!r}: no {kind} row of {where} has source {source!r}"
