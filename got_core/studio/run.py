"""The studio as a process: a model or a server from settings, then uvicorn.

Belongs here: from settings to a listening studio. Not here: the application (`app`).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from got_core.registry.reference import NoModelError
from got_core.server_settings import ServeSettings, StudioSettings
from got_core.serving.models import ModelSlot
from got_core.serving.provenance import publisher_of
from got_core.serving.run import listening_socket, load_options, url_of
from got_core.studio.desk import Studio
from got_core.studio.painter import EmbeddedPainter, Painter, RemotePainter

CHAMPION = "models:/got@champion"
_GRACE = 10


def make_painter(
    reference: str | None, tracking_uri: str, settings: StudioSettings, serving: ServeSettings
) -> tuple[Painter, str]:
    """Who draws, and its name. `reference` None: the champion, and where there is none the weights that come
    with the package. Raises as `ModelSlot` and `RemotePainter`."""
    if settings.server is not None:
        token = settings.server_token.get_secret_value() if settings.server_token else None
        return RemotePainter(settings.server, token), settings.server
    slot = _slot(reference, tracking_uri, serving)
    slot.watch(serving.watch, lambda model: None)
    return EmbeddedPainter(slot, serving, publisher_of(serving)), slot.current.name


def _slot(reference: str | None, tracking_uri: str, serving: ServeSettings) -> ModelSlot:
    options = load_options(serving)
    try:
        return ModelSlot(reference or CHAMPION, tracking_uri, options)
    except NoModelError:
        if reference is not None:
            raise
    with tempfile.TemporaryDirectory(prefix="got-studio-") as folder:
        return ModelSlot(str(packaged_folder(Path(folder) / "packaged-weights")), tracking_uri, options)


def packaged_folder(folder: Path) -> Path:
    """The weights that come with the package as a saved pipeline, in this folder."""
    from got_core.model.build import build_scheduler, pipeline_settings
    from got_core.model.formats.foundation_folder import PACKAGED, FoundationFolder
    from got_core.model.formats.published import load_foundation_folders
    from got_core.recipes import embedded

    own, model = FoundationFolder(PACKAGED), embedded().model
    pipeline = load_foundation_folders(own.drawing, own.language, **pipeline_settings(model))
    pipeline.register_modules(scheduler=build_scheduler(model.scheduler))
    pipeline.save_pretrained(folder, safe_serialization=True)
    return folder


def run_studio(
    painter: Painter,
    name: str,
    feedback: Path,
    settings: StudioSettings,
    report: Callable[[str], None] = print,
) -> None:
    """Show the page until the process is stopped. Raises ValueError for an address that needs accounts,
    OSError for one that is taken."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    import uvicorn

    from got_core.studio.app import make_app

    try:
        with listening_socket(settings.host, settings.port) as listening:
            app = make_app(Studio(painter, feedback), settings)
            report(f"the studio draws with {name}: open {url_of(listening)}")
            config = uvicorn.Config(
                app, log_level="warning", access_log=False, timeout_graceful_shutdown=_GRACE
            )
            uvicorn.Server(config).run(sockets=[listening])
    finally:
        painter.close()
