"""A pipeline that notes every picture that it draws, for tests with workers and kills."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from got_core.evaluate.drawers.opening import opened
from got_core.model.pipeline import GoTPipeline


def counting(folder: Path | str, **options: Any) -> GoTPipeline:
    """The pipeline of a folder; `drawn.log` beside it gets a line a picture: prompt, seed of its generator,
    process."""
    pipeline = opened(folder, **options)
    draw, log = pipeline.draw, Path(folder).parent / "drawn.log"

    def noting(chains: Any, prompts: Any, *rest: Any, generator: Any, **more: Any) -> Any:
        pictures = draw(chains, prompts, *rest, generator=generator, **more)
        lines = [
            f"{prompt}\t{one.initial_seed()}\t{os.getpid()}\n"
            for prompt, one in zip(prompts, generator, strict=True)
        ]
        with log.open("a") as file:
            file.write("".join(lines))
        return pictures

    pipeline.draw = noting  # type: ignore[method-assign]
    return pipeline
