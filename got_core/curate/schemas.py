"""Columns of the curation tables: type and one line each."""

from __future__ import annotations

import polars as pl

from got_core.annotate.schemas import ORIGIN
from got_core.corpus.schemas import Columns

SELECTION: Columns = {
    "chain_id": (pl.String(), "id of the chain; null where annotation failed before there was one"),
    "item_id": (pl.String(), "image_id or pair_id"),
    "accepted": (pl.Boolean(), "whether the chain is trained on"),
    "rule": (pl.String(), "first rule that rejected it; null = accepted"),
    "detail": (pl.String(), "what the rule saw; null = accepted"),
    **ORIGIN,
}

HITS: Columns = {
    "chain_id": (pl.String(), "id of the chain; null where annotation failed before there was one"),
    "item_id": (pl.String(), "image_id or pair_id"),
    "rule": (pl.String(), "a rule that rejects the row; a row may have several"),
    "detail": (pl.String(), "what the rule saw"),
}

EXAMPLES: Columns = {
    "rule": (pl.String(), "rule that rejected the row"),
    "item_id": (pl.String(), "image_id or pair_id"),
    "detail": (pl.String(), "what the rule saw"),
    "text": (pl.String(), "beginning of the chain, or of the caption or instruction where there is none"),
}

LEFT_OUT: Columns = {
    "shard": (pl.String(), "shard of the row"),
    **SELECTION,
}

IMAGE_SIGNALS: Columns = {
    "image_id": (pl.String(), "SHA-256 of the image's bytes"),
    "text_share": (pl.Float64(), "share of the image's area under text, 0..1; null = not measured"),
    "unsafe": (pl.Float64(), "score of the unsafe-content classifier, 0..1; null = not measured"),
    "error": (pl.String(), "why the picture could not be measured (reason: detail); null = fine"),
    "measured_by": (pl.String(), "what measured it: changes with the packages and models in use"),
}

BENCHMARK: Columns = {
    "phash": (pl.String(), "64-bit perceptual hash of a benchmark image, 16 hex digits"),
    "name": (pl.String(), "name of the image"),
}

MANIFEST: Columns = {
    "sample_id": (pl.String(), "chain_id; the table is sorted by it"),
    "kind": (pl.String(), "t2i or edit"),
    "shard": (pl.String(), "shard that the sample comes from"),
    "target_path": (
        pl.String(),
        "image to draw, relative to the raw folder (t2i) or the pair table's folder (edit)",
    ),
    "source_path": (pl.String(), "image to edit, relative to the pair table's folder; null for t2i"),
    "width": (pl.Int32(), "pixels of the image to draw, after EXIF rotation"),
    "height": (pl.Int32(), "pixels of the image to draw, after EXIF rotation"),
    "prompt": (pl.String(), "concise prompt, or the instruction"),
    "instructions": (pl.List(pl.String()), "the prompt and its other wordings"),
    "chain": (pl.String(), "reasoning chain in data form"),
    "image_id": (pl.String(), "SHA-256 of the target image's bytes"),
    "source_id": (pl.String(), "SHA-256 of the source image's bytes; null for t2i"),
    "pair_id": (pl.String(), "id of the edit pair; null for t2i"),
    "source": (pl.String(), "where the images come from"),
    "licence": (pl.String(), "licence of the images; null = not stated"),
}

ARCHIVED: Columns = {
    "sample_id": (pl.String(), "chain_id"),
    "image_id": (pl.String(), "SHA-256 of the target image's bytes"),
    "source_id": (pl.String(), "SHA-256 of the source image's bytes; null for t2i"),
    "pair_id": (pl.String(), "id of the edit pair; null for t2i"),
}

TAKEDOWNS: Columns = {
    "id": (pl.String(), "SHA-256 of an image (64 hex digits), id of an edit pair, or a perceptual hash (16)"),
    "reason": (pl.String(), "why it goes; null = not stated"),
    "added": (pl.String(), "when it was put on the list; null = not stated"),
}

JUDGED: Columns = {
    "request": (pl.String(), "id on the takedown list"),
    "item_id": (pl.String(), "image_id of a picture that looks like what the request names"),
    "verdict": (pl.String(), "copy: it goes too; other: it is another picture and stays"),
    "judged": (pl.String(), "when; null = not stated"),
}

COPIES: Columns = {
    "request": (pl.String(), "id on the takedown list"),
    "item_id": (pl.String(), "image_id of the picture that looks like it"),
    "original": (pl.String(), "image_id that it looks like; null = the request is a perceptual hash"),
    "distance": (pl.UInt8(), "bits in which the perceptual hashes differ"),
    "color": (pl.Int16(), "levels in which the most unlike cell of the colour grids differs; -1 = not known"),
    "kind": (pl.String(), "t2i: a raw image; edit: a picture of a pair"),
    "path": (pl.String(), "what opens the picture"),
}

PRINTS: Columns = {
    "image_id": (pl.String(), "SHA-256 of the bytes of a picture that was taken down"),
    "phash": (pl.String(), "64-bit perceptual hash, 16 hex digits"),
    "colors": (pl.Binary(), "mean colours of its grid; null = not known"),
    "pixels": (pl.String(), "SHA-256 of its size and pixels; null = it could not be opened"),
}

TAKEN_DOWN: Columns = {
    "request": (pl.String(), "id on the takedown list"),
    "item_id": (pl.String(), "image_id, pair_id or chain_id that it stands for; null = nothing found yet"),
    "kind": (pl.String(), "image, pair or chain; null = nothing found yet"),
    "reason": (pl.String(), "why it goes; null = not stated"),
    "added": (pl.String(), "when it was put on the list; null = not stated"),
    "versions": (pl.List(pl.String()), "registered model versions trained on it"),
}

MODEL_VERSIONS: Columns = {
    "version": (pl.String(), "version of the registered model"),
    "aliases": (pl.List(pl.String()), "champion, challenger ..."),
    "manifests": (pl.List(pl.String()), "content hashes of the manifests that its stages were trained on"),
    "known": (pl.Boolean(), "whether all of them are archived; false = it may have been trained on anything"),
    "items": (pl.List(pl.String()), "taken-down images and pairs that it was trained on"),
    "until": (
        pl.List(pl.String()),
        "those of them that were taken down while it was trained: the id, then stage and step until which it "
        "was trained on them",
    ),
}
