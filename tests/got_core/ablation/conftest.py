"""The corpus that training's tests use."""

from __future__ import annotations

from tests.got_core.train.conftest import training_run

__all__ = ["training_run"]
