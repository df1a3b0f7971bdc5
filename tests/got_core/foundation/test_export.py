"""Foundation weights as a folder: trained, written in published layout, taken like published weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from transformers import AutoTokenizer

from got_core.chain.grammar import parse
from got_core.foundation.export import Facts, export_foundation
from got_core.foundation.train import _drawing_part, _language_part
from got_core.model.build import build_unet, pipeline_settings
from got_core.model.config import ModelConfig
from got_core.model.formats import foundation_folder
from got_core.model.formats.foundation_folder import (
    CARD,
    MANIFEST,
    FoundationFolder,
    FoundationFolderError,
    chosen_folder,
)
from got_core.model.formats.published import load_foundation_folders
from got_core.model.formats.saved import load_foundation
from got_core.model.pipeline import GoTPipeline
from got_core.recipes import Recipe, tiny
from got_core.registry.tracking import ensure_experiment
from got_core.train.data.samples import training_data
from got_core.train.run import TrainingRun
from got_core.train.start import starting_pipeline, take_foundation
from got_core.train.tracking import EXPERIMENT
from got_core.train.trainer import Trainer
from tests.got_core.model.tiny_checkpoints import edit_file

FOLDER = "models/foundation/x"


def recipe() -> Recipe:
    """`tiny` with all that a foundation of the full world has: a U-Net with a skip, which has seen edits."""
    model = replace(tiny().model, unet=replace(tiny().model.unet, input_skip=True))
    foundation = replace(tiny().foundation, unet_edit_share=0.5, unet_steps=4, language_steps=3)
    return replace(tiny(), model=model, foundation=foundation)


MODEL = recipe().model
FACTS = Facts(
    recipe="tiny", seed=0, commit="0123456789abcdef", manifest_hash="m" * 8, cpu_seconds=12.4,
    trained="2026-11-30", rows={"t2i": 48, "edit": 16}, foundation={"unet_steps": 4},
    metrics={"diffusion_loss": 0.5}, scores={"plans right": 0.25},
)  # fmt: skip


@pytest.fixture(scope="module")
def trained(training_run: TrainingRun, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainingRun, Path]:
    """A run, and the folder of the foundation that it trained."""
    home = tmp_path_factory.mktemp("trained")
    run = replace(training_run, storage_url=f"file://{home}", recipe=recipe())
    ensure_experiment(run.tracking_uri, EXPERIMENT)
    _language_part(run, f"{FOLDER}/language")
    _drawing_part(run, f"{FOLDER}/drawing")
    return run, home / FOLDER


@pytest.fixture(scope="module")
def weights(trained: tuple[TrainingRun, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that was written of it."""
    folder = tmp_path_factory.mktemp("weights") / "tiny"
    export_foundation(trained[1], folder, MODEL, FACTS)
    return folder


@pytest.fixture
def copied(weights: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(weights, tmp_path / "copied"))


def test_no_file_says_where_the_foundation_was_trained(
    trained: tuple[TrainingRun, Path], weights: Path
) -> None:
    home = str(trained[1].parents[2]).encode()
    assert [path.name for path in weights.rglob("*") if path.is_file() and home in path.read_bytes()] == []


def test_a_stage_goes_on_from_the_folder_as_from_what_was_trained(
    trained: tuple[TrainingRun, Path], weights: Path
) -> None:
    run, source = trained
    run = replace(run, foundation=str(weights))
    reference = take_foundation(run)
    assert reference["stage"] == "published" and reference["manifests"] == [FACTS.manifest_hash]
    assert "recipe tiny, seed 0, commit 0123456789ab" in reference["weights"]
    assert reference["card"]["scores"] == {"plans right": 0.25}
    folder = run.storage().download(reference["folder"])
    taken = starting_pipeline(folder, reference["stage"], MODEL, 0)
    original = load_foundation(source, MODEL, 0)
    pictures = [_drawn(pipeline) for pipeline in (original, taken)]
    assert (pictures[0] - pictures[1]).abs().mean() < 1.0, "levels of 255"
    for part in ("mllm", "projector", "unet", "vae"):
        rounded, exact = (getattr(pipeline, part).state_dict() for pipeline in (taken, original))
        assert rounded.keys() == exact.keys()
        for name, value in exact.items():
            torch.testing.assert_close(rounded[name], value, rtol=2**-7, atol=1e-30, msg=name)
    mine, other = (
        {name: value for name, value in pipeline.scheduler.config.items() if not name.startswith("_")}
        for pipeline in (taken, original)
    )
    assert mine == other and type(taken.scheduler) is type(original.scheduler)
    assert taken.tokenizer.get_vocab() == original.tokenizer.get_vocab()
    baseline = replace(MODEL, reasoning=False, spatial_guidance=False)
    other_start = starting_pipeline(folder, reference["stage"], baseline, 0, empty=True)
    assert taken.config.reasoning and not other_start.config.reasoning, "as the ablation asks for it"
    stage = replace(tiny().stage("pretrain").config, steps=1, workers=1)
    losses: list[dict[str, float]] = []
    Trainer(taken, training_data(run, stage), stage).run(1, lambda step, found: losses.append(found))
    assert len(losses) == 1 and all(torch.tensor(list(losses[0].values())).isfinite())
    again = take_foundation(run)
    assert (again["folder"], again["weights_hash"]) == (reference["folder"], reference["weights_hash"])


def _drawn(pipeline: GoTPipeline) -> torch.Tensor:
    """A picture of a plan that is given, in levels of 255."""
    chain = parse("a red circle (100,100),(500,500) on a grey background")
    noise = torch.Generator().manual_seed(0)
    drawn = pipeline.draw(chain, "a red circle", generator=noise, output_type="np")
    return torch.as_tensor(drawn[0]) * 255


def test_the_layout_is_the_published_one_and_the_card_is_filled_from_the_manifest(weights: Path) -> None:
    names = {path.relative_to(weights).as_posix() for path in weights.rglob("*") if path.is_file()}
    assert names >= {
        "drawing/model_index.json", "drawing/scheduler/scheduler_config.json", "drawing/unet/config.json",
        "drawing/unet/diffusion_pytorch_model.safetensors", "drawing/vae/config.json", "language/config.json",
        "language/model.safetensors", "language/tokenizer.json", "language/preprocessor_config.json",
        "language/projector/config.json", CARD, MANIFEST,
    }  # fmt: skip
    with safe_open(weights / "language" / "model.safetensors", "pt") as file:
        assert "visual.patch_embed.proj.weight" in file.keys() and "lm_head.weight" in file.keys()  # noqa: SIM118
        assert file.get_tensor("visual.patch_embed.proj.weight").dtype is torch.bfloat16
        assert file.get_tensor("model.norm.weight").dtype is torch.float32
    manifest = json.loads((weights / MANIFEST).read_text())
    assert manifest["rows"] == {"t2i": 48, "edit": 16} and manifest["foundation"] == {"unet_steps": 4}
    assert set(manifest["files"]) == names - {MANIFEST}
    card = (weights / CARD).read_text()
    for told in ("`tiny`", "0123456789abcdef", "| CPU seconds | 12 |", "| plans right | 0.25 |",
                 "48 t2i, 16 edit", f"| unet | {manifest['parameters']['unet']} |"):  # fmt: skip
        assert told in card
    AutoTokenizer.from_pretrained(weights / "language")


def test_what_does_not_fit_is_rounded_further_and_then_refused(
    trained: tuple[TrainingRun, Path], weights: Path, tmp_path: Path
) -> None:
    run, source = trained
    whole = sum(path.stat().st_size for path in weights.rglob("*") if path.is_file())
    target = tmp_path / "small"
    sizes = export_foundation(source, target, MODEL, FACTS, largest=whole - 20_000)
    assert sum(sizes.values()) <= whole - 20_000
    rounded = FoundationFolder(target).manifest["precision"]["8-bit floats"]
    assert rounded and rounded[0] in (target / CARD).read_text()
    take_foundation(replace(run, foundation=str(target)))
    before = (target / MANIFEST).read_bytes()
    with pytest.raises(ValueError, match=r"takes [\d,]+ bytes, at most 50,000 are allowed; the largest"):
        export_foundation(source, target, MODEL, FACTS, largest=50_000)
    assert (target / MANIFEST).read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["small"], "nothing half-written"


def test_without_got_there_is_no_projector_and_the_u_net_is_plain(
    trained: tuple[TrainingRun, Path], tmp_path: Path
) -> None:
    source = Path(shutil.copytree(trained[1], tmp_path / "source"))
    torch.manual_seed(1)
    plain = build_unet(MODEL)
    plain.save_pretrained(source / "drawing" / "unet")
    export_foundation(source, tmp_path / "out", MODEL, replace(FACTS, foundation={"chains": False}))
    folder = FoundationFolder(tmp_path / "out")
    assert folder.manifest["aligned"] is False and not (folder.language / "projector").exists()
    assert "knows no chains" in (folder.path / CARD).read_text()
    first, other = (
        load_foundation_folders(folder.drawing, folder.language, seed=seed, **pipeline_settings(MODEL))
        for seed in (1, 2)
    )
    latent = MODEL.autoencoder.latent_channels
    assert first.unet.config.in_channels == 3 * latent and not first.unet.conv_in.weight[:, latent:].any()
    torch.testing.assert_close(
        first.unet.conv_in.weight[:, :latent], plain.conv_in.weight, rtol=2**-7, atol=1e-30
    )
    fresh, another = (one.projector.output_projector.weight for one in (first, other))
    assert not torch.equal(fresh, another)


def test_weights_that_are_not_finite_are_never_written(
    trained: tuple[TrainingRun, Path], tmp_path: Path
) -> None:
    source = Path(shutil.copytree(trained[1], tmp_path / "source"))
    edit_file(
        source / "drawing" / "unet" / "diffusion_pytorch_model.safetensors",
        {"conv_out.bias": torch.full((MODEL.autoencoder.latent_channels,), torch.nan)},
    )
    with pytest.raises(ValueError, match=r"unet\.conv_out\.bias is not finite as torch\.float32"):
        export_foundation(source, tmp_path / "out", MODEL, FACTS)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def _reformat(path: Path) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("drawing/unet/diffusion_pytorch_model.safetensors", _flip, "does not have the SHA-256"),
        ("language/config.json", lambda path: path.write_text("{}"), "has 2 bytes, not"),
        ("language/tokenizer.json", Path.unlink, "is missing"),
        ("language/pytorch_model.bin", lambda path: path.write_bytes(b"x"), f"is not listed in {MANIFEST}"),
        (MANIFEST, lambda path: path.write_text("{"), "is not JSON"),
        (MANIFEST, lambda path: path.write_text('{"format": 1}'), "does not list its files"),
        (MANIFEST, _reformat, "is of format 99, this version reads 1"),
        (MANIFEST, Path.unlink, "is no folder of foundation weights"),
    ],
)
def test_a_folder_that_is_not_as_it_was_written_is_one_error_that_names_the_file(
    trained: tuple[TrainingRun, Path], copied: Path, file: str, change: Callable[[Path], None], message: str
) -> None:
    change(copied / file)
    with pytest.raises((FoundationFolderError, FileNotFoundError), match=message) as caught:
        take_foundation(replace(trained[0], foundation=str(copied)))
    assert str(copied) in str(caught.value) and Path(file).name in str(caught.value)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (replace(MODEL, image_tokens=8), "image_tokens is 4, not 8"),
        (replace(MODEL, unet=replace(MODEL.unet, norm_groups=8)), "unet.norm_groups is 16, not 8"),
        (
            replace(MODEL, language_model=replace(MODEL.language_model, rope_theta=7.0)),
            "language_model.rope_theta is 10000.0, not 7.0",
        ),
    ],
)
def test_a_folder_for_another_model_is_refused(
    trained: tuple[TrainingRun, Path], copied: Path, model: ModelConfig, message: str
) -> None:
    run = replace(trained[0], foundation=str(copied), recipe=replace(recipe(), model=model))
    with pytest.raises(FoundationFolderError, match=f"than recipe 'tiny' is for: {message}; take a"):
        take_foundation(run)


def test_shapes_are_looked_at_whatever_the_manifest_says(
    trained: tuple[TrainingRun, Path], copied: Path
) -> None:
    wider = replace(MODEL, unet=replace(MODEL.unet, block_out_channels=(16, 64)))
    manifest = json.loads((copied / MANIFEST).read_text())
    manifest["model"]["unet"]["block_out_channels"] = [16, 64]
    (copied / MANIFEST).write_text(json.dumps(manifest))
    run = replace(trained[0], foundation=str(copied), recipe=replace(recipe(), model=wider))
    with pytest.raises(
        ValueError, match=r"GOT_FOUNDATION=\S+ is another model than recipe 'tiny' .*: unet\."
    ):
        take_foundation(run)


def test_the_packages_own_weights_are_taken_for_their_model_and_for_scenes(
    weights: Path, copied: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(foundation_folder, "PACKAGED", tmp_path / "nowhere")
    assert chosen_folder(None, MODEL) is None, "there are none"
    monkeypatch.setattr(foundation_folder, "PACKAGED", copied)
    own = chosen_folder(None, MODEL)
    assert own is not None and own.path == copied
    drawn_otherwise = replace(MODEL, inference_steps=9, max_new_tokens=3)
    assert chosen_folder(None, drawn_otherwise) is not None
    assert chosen_folder(None, tiny().model) is None, "it has no skip"
    assert chosen_folder(None, MODEL, scenes=False) is None
    assert chosen_folder("train", MODEL) is None
    named = chosen_folder(str(weights), tiny().model)
    assert named is not None and named.path == weights
    (copied / MANIFEST).write_text("{")
    broken = chosen_folder(None, MODEL)
    assert broken is not None, "opening it says what is wrong, where nobody would see training instead"
    with pytest.raises(FoundationFolderError, match="install the package again"):
        broken.check()
