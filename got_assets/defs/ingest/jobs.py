"""Jobs that bring one shard from raw files to training tars and a page to review; where nothing can
annotate, to ingestion only."""

from __future__ import annotations

import dagster as dg

from got_assets.project import PROJECT

_CAN_ANNOTATE = PROJECT.settings.annotator_name is not None
_FROM_MODELS = not PROJECT.settings.chains_imported

_IMAGE_ANNOTATION = (
    *(("captions", "entities", "boxes") if _FROM_MODELS else ()),
    "t2i_chains",
    "t2i_selection",
    "t2i_gallery",
    "t2i_training_shards",
)
_EDIT_ANNOTATION = (
    *(("edit_descriptions", "edit_boxes") if _FROM_MODELS else ()),
    "edit_chains",
    "edit_selection",
    "edit_gallery",
    "edit_training_shards",
)
IMAGE_STEPS = (
    "raw_images",
    *(_IMAGE_ANNOTATION if _CAN_ANNOTATE else ()),
)
EDIT_STEPS = (
    "edit_pairs",
    *(_EDIT_ANNOTATION if _CAN_ANNOTATE else ()),
)

prepare_images = dg.define_asset_job(
    name="prepare_images",
    selection=dg.AssetSelection.assets(*IMAGE_STEPS),
    description="One shard of images, from raw files to training tars.",
)
prepare_edits = dg.define_asset_job(
    name="prepare_edits",
    selection=dg.AssetSelection.assets(*EDIT_STEPS),
    description="One shard of edit pairs, from the pair table to the selection of chains.",
)
