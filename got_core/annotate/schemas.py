"""Columns of the annotation tables: type and one line each."""

from __future__ import annotations

import polars as pl

from got_core.corpus.schemas import Columns

ORIGIN: Columns = {
    "source": (pl.String(), "where the images come from"),
    "licence": (pl.String(), "licence of the images; null = not stated"),
}
"""Travels with every row, from ingestion on."""

_OUTCOME: Columns = {
    **ORIGIN,
    "error": (pl.String(), "why the row is quarantined at this step (reason: detail); null = fine"),
    "reason": (pl.String(), "the short reason alone; null = fine"),
}

_MODEL_COLUMNS: Columns = {
    "raw_reply": (pl.String(), "the model's reply that could not be used; null = none"),
    "tokens_in": (pl.Int64(), "tokens that models read for this row at this step"),
    "tokens_out": (pl.Int64(), "tokens that models wrote for this row at this step"),
    "cost": (pl.Float64(), "what those tokens cost, in the currency of the prices"),
    **_OUTCOME,
}
"""Of the steps that send requests to a model."""

_CORNERS = {"x1": pl.Int32(), "y1": pl.Int32(), "x2": pl.Int32(), "y2": pl.Int32()}

GROUNDED = pl.Struct({"phrase": pl.String(), "occurrence": pl.Int32(), **_CORNERS})
EDIT_GROUNDED = pl.Struct(
    {
        "image": pl.String(),
        "phrase": pl.String(),
        "occurrence": pl.Int32(),
        "step": pl.Int32(),
        **_CORNERS,
    }
)
EDIT_STEP = pl.Struct({"instruction": pl.String(), "task": pl.String(), "entities": pl.List(pl.String())})

CAPTIONS: Columns = {
    "image_id": (pl.String(), "SHA-256 of the image's bytes"),
    "prompt": (pl.String(), "concise prompt: what the model will be given"),
    "caption": (pl.String(), "detailed caption: what the chain is made from"),
    "annotator": (pl.String(), "revision of the annotator"),
    **_MODEL_COLUMNS,
}

ENTITIES: Columns = {
    "image_id": (pl.String(), "SHA-256 of the image's bytes"),
    "entities": (pl.List(pl.String()), "groundable object names, in the caption's order and wording"),
    **_MODEL_COLUMNS,
}

BOXES: Columns = {
    "image_id": (pl.String(), "SHA-256 of the image's bytes"),
    "boxes": (
        pl.List(GROUNDED),
        "one an entity: name, which one of that name, box in 0..999 (null = not found)",
    ),
    **_MODEL_COLUMNS,
}

T2I_CHAINS: Columns = {
    "chain_id": (pl.String(), "hash of image, annotator revision and prompt"),
    "image_id": (pl.String(), "SHA-256 of the image's bytes"),
    "prompt": (pl.String(), "concise prompt"),
    "caption": (pl.String(), "detailed caption that the chain was made from"),
    "phrases": (pl.List(pl.String()), "names that have a box, in order"),
    "chain": (pl.String(), "reasoning chain in data form"),
    "boxes": (pl.Int32(), "number of boxes in the chain"),
    **_OUTCOME,
}

EDIT_DESCRIPTIONS: Columns = {
    "pair_id": (pl.String(), "id of the edit pair"),
    "task": (pl.String(), "kind of edit: add, remove, recolour, replace, move, ..., multi_turn"),
    "entities": (pl.List(pl.String()), "what is edited; old one first, new one last"),
    "steps": (
        pl.List(EDIT_STEP),
        "the edits that the instruction asks for, in order; one unless it is multi_turn",
    ),
    "source_text": (pl.String(), "description of the source image"),
    "target_text": (pl.String(), "description of the target image"),
    "instructions": (pl.List(pl.String()), "the instruction as given, then its other wordings"),
    **_MODEL_COLUMNS,
}

EDIT_BOXES: Columns = {
    "pair_id": (pl.String(), "id of the edit pair"),
    "boxes": (
        pl.List(EDIT_GROUNDED),
        "area of the edit: image (source or target), name, which one, step from 0, box in 0..999",
    ),
    "object_text": (pl.String(), "what the first box shows"),
    **_MODEL_COLUMNS,
}

EDIT_CHAINS: Columns = {
    "chain_id": (pl.String(), "hash of pair, annotator revision and instruction"),
    "pair_id": (pl.String(), "id of the edit pair"),
    "instruction": (pl.String(), "the instruction as given"),
    "instructions": (pl.List(pl.String()), "the instruction as given, then its other wordings"),
    "chain": (pl.String(), "edit chain in data form, a numbered list"),
    "boxes": (pl.Int32(), "number of boxes in the chain"),
    **_MODEL_COLUMNS,
}
