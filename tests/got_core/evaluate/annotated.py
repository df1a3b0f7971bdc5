"""Chains of edit cases as the corpus has them."""

from __future__ import annotations

import polars as pl

from got_core.annotate.edit import assemble_edit_chains, describe_edits, ground_edits
from got_core.annotate.scene_annotator import SceneAnnotator
from got_core.chain.grammar import Chain, parse
from got_core.evaluate.edit_cases import EditCase
from got_core.scenes.render import render


def annotated_chains(cases: list[EditCase]) -> list[Chain]:
    """The chains that the corpus's annotation writes for the cases' sources and targets."""
    pictures = {
        f"{k}-{side}": render(getattr(c, side)) for k, c in enumerate(cases) for side in ("source", "target")
    }
    rows = [(f"{k}", f"{k}-source", f"{k}-target", c.instruction) for k, c in enumerate(cases)]
    names = ["pair_id", "source_path", "target_path", "instruction"]
    pairs = pl.DataFrame(rows, schema=names, orient="row").with_columns(error=pl.lit(None, pl.String))
    annotator, reader = SceneAnnotator(), pictures.__getitem__
    described = describe_edits(pairs, reader, annotator)
    grounded = ground_edits(pairs, described, reader, annotator)
    table = assemble_edit_chains(pairs, described, grounded, annotator)
    return [parse(text) for text in table["chain"]]
