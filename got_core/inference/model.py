"""A pipeline that is ready to draw, from a model's name.

Belongs here: opening it. Not here: finding its folder (`got_core.registry.reference`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from got_core.registry.reference import model_folder

if TYPE_CHECKING:
    from got_core.model.pipeline import GoTPipeline


class CannotOpenError(RuntimeError):
    """A model that does not load."""


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
