"""`got draw --from`: a picture drawn again as its own metadata says.

Belongs here: what is changed of it, and what is printed. Not here: notes (`got_core.registry.picture_file`),
or drawing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from got_assets.cli.errors import usage_errors
from got_assets.cli.options import print_json
from got_assets.cli.project import open_project, opened_pipeline


def draw_again(
    file: Path,
    changed: dict[str, Any],
    given: tuple[Path | None, Path | None],
    *,
    seed: int | None,
    prompt: str | None,
    out: Path | None,
    model: str | None,
    as_json: bool,
) -> None:
    """Draw the picture of a file as its note says, but for what is `changed`; `given`: the picture that was
    edited, and the one of which a part was kept."""
    from dataclasses import replace

    from got_core.inference import pictures
    from got_core.inference.model import model_of_note, registered_weights, shown_name
    from got_core.inference.plan_document import plan_document
    from got_core.registry.rows import redrawn

    with usage_errors():
        pictures.check_picture_name(out)
    note = pictures.open_note(file)
    settings = {name: value for name, value in changed.items() if value is not None}
    if (
        settings or seed is not None or prompt is not None
    ):  # another picture: it need not stand where it stood
        note = replace(note, settings={**note.settings, **settings}, place=(0, 1))
        note = replace(note, seed=note.seed if seed is None else seed, prompt=prompt or note.prompt)
    source, earlier = (pictures.open_picture(one) if one else None for one in given)
    uri = open_project().settings.tracking_uri
    with opened_pipeline(model or model_of_note(note, uri)) as (pipeline, name):
        picture = redrawn(pipeline, note, source, earlier)
        note = replace(note, model=shown_name(name), weights_hash=registered_weights(name, uri))
    path = pictures.write_picture(picture, out, f"{file.stem}-again", note)
    document = plan_document(note.plan(), note.prompt, given[0], (), source)
    if as_json:
        print_json({"picture": str(path.absolute()), "seed": note.seed, "model": name, **document})
    else:
        typer.echo(f"{path}  {document['chain']}")
