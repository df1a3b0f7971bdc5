"""What is done with a drawn picture before it is given out: a look whether it is safe, and a signed manifest.

Belongs here: both, each where a setting asks for it. Not here: the classifier (`got_core.curate.signals`),
notes in PNG files (`got_core.registry.picture_file`).
"""

from __future__ import annotations

import io
import json
import threading
from pathlib import Path
from typing import Any

from PIL import Image

from got_core.registry.picture_file import CONTENT_TYPES, PictureNote
from got_core.server_settings import ServeSettings
from got_core.serving.answers import Publisher, Withheld

ASSERTION = "org.got.drawing"
_SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"


def publisher_of(settings: ServeSettings) -> Publisher:
    """As the settings ask. Raises ModuleNotFoundError for a package that is missing, ValueError for a
    certificate that cannot be used."""
    options: dict[str, Any] = {}
    if settings.max_unsafe is not None:
        options["withheld"] = unsafe_check(settings.max_unsafe)
    if settings.c2pa_certificate is not None and settings.c2pa_key is not None:
        options["sign"] = ManifestSigner(
            settings.c2pa_certificate, settings.c2pa_key, settings.c2pa_algorithm
        )
    return Publisher(**options)


def unsafe_check(most: float) -> Withheld:
    """Withholds pictures with a higher score of the OpenNSFW classifier than `most` (0 to 1).

    Raises ModuleNotFoundError where the classifier is not installed.
    """
    from got_core.curate.signals import UnsafeScore

    meter = UnsafeScore()
    meter.measure(Image.new("RGB", (8, 8)))  # loads it: what is missing is said now

    def reason(image: Image.Image) -> str | None:
        score = meter.measure(image)
        if score <= most:
            return None
        return (
            f"the picture is withheld: {meter.revision} scores it {score:.2f} (0 is safe), and {most:g} is "
            "the most that this server gives out"
        )

    return reason


class ManifestSigner:
    """Adds C2PA manifests: a trained model made this picture, which one, and with which seed and settings.

    Prompt and plan are left out: a manifest outlives metadata that is stripped on purpose.
    """

    def __init__(self, certificate: Path, key: Path, algorithm: str = "es256") -> None:
        """`certificate`: a chain in PEM, the signer's first. Raises ModuleNotFoundError without
        `c2pa-python`, ValueError where the files cannot be used, by signing once."""
        try:
            import c2pa
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "signed manifests need the package c2pa-python: pip install 'got[serve]'", name="c2pa"
            ) from error
        self._c2pa, self._turn = c2pa, threading.Lock()
        info = c2pa.C2paSignerInfo(algorithm, certificate.read_bytes(), key.read_bytes(), None)
        try:
            self._signer = c2pa.Signer.from_info(info)
            self._probe()
        except c2pa.C2paError as error:
            raise ValueError(f"{certificate} and {key} cannot sign with {algorithm}: {error}") from error

    def __call__(self, data: bytes, kind: str, note: PictureNote) -> bytes:
        """The file (`kind`: of CONTENT_TYPES) with its manifest."""
        signed = io.BytesIO()
        with self._turn:
            builder = self._c2pa.Builder(json.dumps(manifest(note, kind)))
            builder.sign(self._signer, CONTENT_TYPES[kind], io.BytesIO(data), signed)
        return signed.getvalue()

    def _probe(self) -> None:
        file = io.BytesIO()
        Image.new("RGB", (8, 8)).save(file, format="PNG")
        self(file.getvalue(), "png", PictureNote(prompt="", chain="", seed=0))


def manifest(note: PictureNote, kind: str) -> dict[str, Any]:
    """The manifest of a picture."""
    anew = note.source is None and note.earlier is None
    made = "trainedAlgorithmicMedia" if anew else "compositeWithTrainedAlgorithmicMedia"
    action = {
        "action": "c2pa.created",
        "digitalSourceType": _SOURCE_TYPES + made,
        "softwareAgent": {"name": "got", "version": note.got},
    }
    drawing = {
        "model": note.model,
        "weights_hash": note.weights_hash,
        "seed": str(note.seed),
        "settings": json.dumps(dict(note.settings), sort_keys=True),
    }
    return {
        "claim_generator_info": [{"name": "got", "version": note.got}],
        "title": "picture",
        "format": CONTENT_TYPES[kind],
        "assertions": [
            {"label": "c2pa.actions.v2", "data": {"actions": [action]}},
            {"label": ASSERTION, "data": drawing},
        ],
    }
