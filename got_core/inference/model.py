"""A pipeline that is ready to draw, from a model's name.

Belongs here: opening it. Not here: finding its folder (`got_core.registry.reference`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from got_core.registry.picture_file import PictureNote
from got_core.registry.reference import SCHEME, model_folder, version_tags

if TYPE_CHECKING:
    from got_core.model.pipeline import GoTPipeline


class CannotOpenError(RuntimeError):
    """A model that does not load."""


class OtherWeightsError(ValueError):
    """A model that is not the one that drew a picture."""


def shown_name(name: str) -> str:
    """What a picture says of the model that drew it: a version, or of a folder its last name alone."""
    return name if name.startswith(SCHEME) else name.rstrip("/").rpartition("/")[2]


def registered_weights(name: str, tracking_uri: str) -> str | None:
    """Hash of a version's weights as its tag has it; None of a folder. Raises as `model_folder`."""
    if not name.startswith(SCHEME):
        return None
    return version_tags(name, tracking_uri)[1].get("weights_hash")


def model_of_note(note: PictureNote, tracking_uri: str) -> str:
    """The version that drew a picture. Raises OtherWeightsError where the name has other weights now, and
    ValueError where a folder drew it."""
    if not note.model.startswith(SCHEME):
        raise ValueError(f"the picture was drawn by a folder named {note.model!r}: give it as --model")
    found = registered_weights(note.model, tracking_uri)
    if note.weights_hash is not None and found != note.weights_hash:
        raise OtherWeightsError(
            f"{note.model} has other weights than those that drew the picture: give the model as --model"
        )
    return note.model


@contextmanager
def opened_model(
    reference: str, tracking_uri: str, *, progress: bool = False
) -> Iterator[tuple[GoTPipeline, str]]:
    """The pipeline, on a GPU if there is one, and the model's full name. `progress`: bars on stderr.

    Only safetensors are read. Raises as `model_folder`, and CannotOpenError.
    """
    with model_folder(reference, tracking_uri) as (folder, name), _bars(progress):
        import torch

        from got_core.model.pipeline import GoTPipeline

        try:
            pipeline = GoTPipeline.from_pretrained(folder, use_safetensors=True)
        except MemoryError:
            raise
        except Exception as error:  # whatever a library raises over files that it cannot use
            raise CannotOpenError(f"{name} does not load: {type(error).__name__}: {error}") from error
        pipeline.set_progress_bar_config(disable=not progress)
        yield pipeline.to("cuda" if torch.cuda.is_available() else "cpu"), name


@contextmanager
def _bars(shown: bool) -> Iterator[None]:
    """Both libraries' bars while loading, for the whole process; afterwards as they were."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    hidden = [
        one
        for one in (diffusers_logging, transformers_logging)
        if not shown and one.is_progress_bar_enabled()
    ]
    for one in hidden:
        one.disable_progress_bar()
    try:
        yield
    finally:
        for one in hidden:
            one.enable_progress_bar()
