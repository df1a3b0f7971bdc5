"""The diffusers pipeline: planning, drawing, checks, and saving."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from PIL import Image

from got_core.chain.boxes import Box
from got_core.chain.edits import move_box
from got_core.chain.grammar import Chain, parse
from got_core.model.backbones.sdxl_unet import widen_input
from got_core.model.build import build_unet
from got_core.model.canvases import to_tensor
from got_core.model.guidance import encode
from got_core.model.pipeline import EDIT_SCALES, GENERATE_SCALES, GoTPipeline
from got_core.model.unet import SKIP_GAIN
from tests.got_core.pictures import awkward
from tests.got_core.tiny_pipeline import TINY, sees_its_conditions, tiny_pipeline

CHAIN = parse("a red circle (100,100),(400,400)")
SOURCE = Image.new("RGB", (64, 64), (200, 30, 30))


@pytest.fixture(scope="module")
def pipeline() -> GoTPipeline:
    return sees_its_conditions(tiny_pipeline())


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pixels(images: list[Image.Image]) -> np.ndarray:
    return np.stack([np.asarray(image, dtype=np.int16) for image in images])


def test_one_call_plans_and_draws_for_text_and_for_edits(pipeline: GoTPipeline) -> None:
    drawn = pipeline(["a red circle", "two cats"], num_images_per_prompt=2, generator=seeded())
    edited = pipeline("make it blue", image=SOURCE, generator=seeded())
    assert [image.size for image in drawn.images] == [(64, 64)] * 4
    assert len(drawn.chains) == 4
    assert drawn.chains[0] == drawn.chains[1]
    assert len(edited.images) == 1


def test_drawing_from_the_planned_chain_gives_the_same_picture(pipeline: GoTPipeline) -> None:
    whole = pipeline("a red circle", generator=seeded())
    again = pipeline.draw(pipeline.plan("a red circle"), "a red circle", generator=seeded())
    assert (pixels(whole.images) == pixels(again)).all()


def test_the_chain_and_the_source_change_the_picture(pipeline: GoTPipeline) -> None:
    moved = parse("a red circle (500,500),(800,800)")
    first, second = (
        pipeline.draw(chain, "a red circle", generator=seeded(), output_type="pt") for chain in (CHAIN, moved)
    )
    edit = pipeline.draw(CHAIN, "a red circle", image=SOURCE, generator=seeded(), output_type="pt")
    other = pipeline.draw(
        CHAIN, "a red circle", image=Image.new("RGB", (64, 64)), generator=seeded(), output_type="pt"
    )
    assert not torch.equal(first, second)
    assert not torch.equal(edit, other)


def test_scales_default_to_those_of_the_task() -> None:
    assert GENERATE_SCALES == (7.5, 4.0, 1.0)
    assert EDIT_SCALES == (4.0, 3.0, 1.5)
    pipeline = sees_its_conditions(tiny_pipeline())
    generate, edit = (2.0, 1.5, 1.0), (3.0, 2.0, 1.5)
    pipeline.register_to_config(generate_scales=list(generate), edit_scales=list(edit))

    def draw(image: Image.Image | None, scales: tuple[float, float, float] | None = None) -> torch.Tensor:
        names = ("text_scale", "spatial_scale", "reference_scale")
        given = dict(zip(names, scales, strict=True)) if scales else {}
        return pipeline.draw(CHAIN, "a cat", image, generator=seeded(), output_type="latent", **given)

    for image, own, other in ((None, generate, edit), (SOURCE, edit, generate)):
        assert torch.equal(draw(image), draw(image, own))
        assert not torch.equal(draw(image), draw(image, other))


def test_guidance_is_read_off_the_last_layer_at_the_image_tokens(pipeline: GoTPipeline) -> None:
    prompts, chains = ["a cat", "a much longer prompt than that"], [CHAIN, parse("no box")]
    conditions = pipeline.encode_conditions(chains, prompts, None, 64, 64)
    sequences = pipeline.sequences
    for row, (prompt, chain) in enumerate(zip(prompts, chains, strict=True)):
        sample = sequences.drawing(sequences.prompt(prompt, has_image=False), chain.to_model())
        with torch.no_grad():
            states = pipeline.mllm(
                input_ids=torch.tensor([sample.ids]), output_hidden_states=True
            ).hidden_states[-1][0]
        places = [k for k, token in enumerate(sample.ids) if token in sequences.image_ids]
        assert [sample.ids[k] for k in places] == sequences.image_ids
        context = pipeline.projector.output_projector(states[places])
        pooled = pipeline.projector.output_projector_add(states[places]).mean(0)
        torch.testing.assert_close(conditions.context[row], context, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(conditions.pooled[row], pooled, rtol=1e-4, atol=1e-5)


def test_the_reference_is_black_or_the_source_stretched(pipeline: GoTPipeline) -> None:
    black = pipeline.encode_conditions([CHAIN], ["a cat"], None, 64, 64).reference
    assert torch.equal(black[0], encode(pipeline.vae, torch.full((1, 3, 64, 64), -1.0))[0])
    assert black.abs().max() > 0
    wide = Image.new("RGB", (100, 40), "red")
    wide.paste("blue", (0, 0, 50, 40))
    reference = pipeline.encode_conditions([CHAIN], ["a cat"], [wide], 64, 64).reference
    square = np.array(wide.resize((64, 64), Image.Resampling.BICUBIC))
    torch.testing.assert_close(reference, encode(pipeline.vae, to_tensor(square[None])))


def test_a_batch_draws_what_single_calls_draw(pipeline: GoTPipeline) -> None:
    chains = [CHAIN, parse("a cat (1,2),(300,400) and a dog (500,600),(700,800)"), parse("no box at all")]
    prompts = ["one", "a longer prompt than that", "three"]
    noise = pipeline.prepare_latents(3, 64, 64, seeded(3))
    together = pipeline.draw(chains, prompts, latents=noise)
    alone = [
        pipeline.draw(chain, prompt, latents=noise[k : k + 1])[0]
        for k, (chain, prompt) in enumerate(zip(chains, prompts, strict=True))
    ]
    assert np.abs(pixels(together) - pixels(alone)).max() <= 2


def test_the_callback_sees_every_step_and_may_change_the_latents(pipeline: GoTPipeline) -> None:
    seen = []

    def callback(_: object, index: int, t: torch.Tensor, values: dict) -> dict:
        seen.append(index)
        return {"latents": torch.zeros_like(values["latents"])}

    latents = pipeline.draw(
        CHAIN, "x", num_inference_steps=3, callback_on_step_end=callback, output_type="latent"
    )
    assert seen == [0, 1, 2]
    assert not latents.any()


# ---------------------------------------------------------------- batches


def test_eight_prompts_with_any_number_of_boxes_equal_eight_calls(pipeline: GoTPipeline) -> None:
    chains = [
        parse(" and ".join(f"a cat ({90 * k},{10 * k}),({90 * k + 80},900)" for k in range(count)) or "none")
        for count in range(8)
    ]
    prompts = [f"prompt {'long ' * k}" for k in range(8)]
    sources = [Image.new("RGB", (64, 64), (30 * k, 200, 10)) for k in range(8)]
    for images in (None, sources):
        together = pipeline.draw(chains, prompts, images, generator=[seeded(k) for k in range(8)])
        alone = [
            pipeline.draw(chain, prompt, images and images[k], generator=seeded(k))[0]
            for k, (chain, prompt) in enumerate(zip(chains, prompts, strict=True))
        ]
        assert np.abs(pixels(together) - pixels(alone)).max() <= 2


def test_planning_in_one_call_equals_planning_alone(pipeline: GoTPipeline) -> None:
    prompts = ["a cat", "a much longer prompt about two dogs and a cup", "x"]
    assert pipeline.plan(prompts) == [pipeline.plan(prompt)[0] for prompt in prompts]
    sources = [SOURCE, Image.new("RGB", (64, 64)), SOURCE.rotate(90)]
    alone = [pipeline.plan(prompt, source)[0] for prompt, source in zip(prompts, sources, strict=True)]
    assert pipeline.plan(prompts, sources) == alone


# ---------------------------------------------------------------- sampling chains


def test_chains_are_greedy_unless_asked_for_and_sampled_ones_depend_on_the_seed(
    pipeline: GoTPipeline,
) -> None:
    def written(seed: int, **sampling: float) -> list[str]:
        return pipeline.write_chains(["a cat", "a dog"], generator=seeded(seed), **sampling)

    assert written(0) == written(1)
    assert written(0, temperature=1.0) == written(0, temperature=1.0) != written(1, temperature=1.0)
    assert written(0, top_p=0.9) == written(0, top_p=0.9) != written(0)
    assert written(0, temperature=2.0, top_p=1e-6) == written(0)


def test_with_a_generator_each_a_sampled_chain_does_not_depend_on_its_neighbours(
    pipeline: GoTPipeline,
) -> None:
    prompts = ["a cat", "a much longer prompt about a dog", "a cup"]
    together = pipeline.write_chains(prompts, temperature=1.0, generator=[seeded(k) for k in range(3)])
    alone = [
        pipeline.write_chains(prompt, temperature=1.0, generator=[seeded(k)])[0]
        for k, prompt in enumerate(prompts)
    ]
    assert together == alone


def test_a_call_with_sampling_is_planning_and_drawing_with_the_same_seed(pipeline: GoTPipeline) -> None:
    prompts = ["a cat", "a dog"]
    whole = pipeline(
        prompts,
        num_images_per_prompt=2,
        temperature=1.0,
        generator=[seeded(k) for k in range(4)],
        output_type="np",
    )
    chains = pipeline.plan(prompts, temperature=1.0, generator=[seeded(0), seeded(2)])
    images = pipeline.draw(
        chains,
        prompts,
        num_images_per_prompt=2,
        generator=[seeded(k) for k in range(4)],
        output_type="np",
    )
    assert whole.chains == [chains[0], chains[0], chains[1], chains[1]]
    assert np.array_equal(whole.images, images)
    assert not np.array_equal(images[0], images[1])


# ---------------------------------------------------------------- malformed chains


@pytest.mark.parametrize(
    ("written", "kept", "lost"),
    [
        ("a cat <|box_start|>(1,2),(3", "a cat ", 1),
        ("a cat <|box_start|>(900,2),(30,4)<|box_end|> (red) sits", "a cat  sits", 1),
        ("<|im_gen_0001|><|image_pad|>\ufffd (5,5)", "\ufffd ", 3),
        ("", "", 0),
        ("a cup <|box_start|>(1,2),(300,400)<|box_end|> (red)", "a cup (1,2),(300,400)", 0),
    ],
)
def test_what_a_model_writes_never_stops_a_call(
    pipeline: GoTPipeline, monkeypatch: pytest.MonkeyPatch, written: str, kept: str, lost: int
) -> None:
    # The model's answer, whatever it is, arrives as token ids: here those of a text of our choice.
    answer = torch.tensor([[*pipeline.sequences.chain(written), pipeline.sequences.start_id]])
    monkeypatch.setattr(
        pipeline.mllm,
        "generate",
        lambda input_ids, **_: torch.cat([input_ids, answer.expand(len(input_ids), -1)], dim=1),
    )
    output = pipeline("a cat", num_images_per_prompt=2)
    assert [chain.to_data() for chain in output.chains] == [kept, kept]
    assert [len(dropped) for dropped in output.dropped] == [lost, lost]
    assert len(output.images) == 2
    assert all(piece.text in written for piece in output.dropped[0])


def test_answers_of_an_untrained_model_are_drawn_whatever_they_are(pipeline: GoTPipeline) -> None:
    prompts = ["a cat"] * 6
    output = pipeline(prompts, temperature=3.0, generator=seeded(5), output_type="latent")
    edited = pipeline(prompts, [SOURCE] * 6, temperature=3.0, generator=seeded(5), output_type="latent")
    for result in (output, edited):
        assert torch.isfinite(result.images).all()
        assert len(result.dropped) == 6 and any(result.dropped)


# ---------------------------------------------------------------- editing


def test_the_same_seed_with_the_same_chain_is_the_same_picture_and_a_moved_box_another(
    pipeline: GoTPipeline,
) -> None:
    first, again, moved, other_seed = (
        pipeline.draw(chain, "a red circle", generator=seeded(seed), output_type="np")
        for chain, seed in (
            (CHAIN, 0),
            (parse(CHAIN.to_model()), 0),
            (move_box(CHAIN, 0, Box(120, 100, 420, 400)), 0),
            (CHAIN, 1),
        )
    )
    assert np.array_equal(first, again)
    assert 0 < np.abs(first - moved).mean() < np.abs(first - other_seed).mean()


def test_each_round_edits_the_picture_of_the_round_before(pipeline: GoTPipeline) -> None:
    sources = [SOURCE, Image.new("RGB", (64, 64))]
    rounds = pipeline.edit_rounds(
        sources, ["make it blue", ["remove the cat", "add a dog"]], generator=seeded(7)
    )
    generator = seeded(7)
    first = pipeline(["make it blue"] * 2, sources, generator=generator)
    second = pipeline(["remove the cat", "add a dog"], first.images, generator=generator)
    assert len(rounds) == 2
    for found, expected in zip(rounds, (first, second), strict=True):
        assert found.chains == expected.chains
        assert (pixels(found.images) == pixels(expected.images)).all()


def test_an_edit_gets_its_sources_aspect_back_unless_a_size_is_asked_for(pipeline: GoTPipeline) -> None:
    wide, tall = Image.new("RGB", (300, 100)), Image.new("RGB", (100, 250))
    sizes = [image.size for image in pipeline.draw([CHAIN] * 2, ["a", "b"], [wide, tall])]
    assert sizes == [(192, 64), (64, 160)]
    rounds = pipeline.edit_rounds(wide, ["a", "b"])
    assert [output.images[0].size for output in rounds] == [(192, 64)] * 2
    assert pipeline.draw(CHAIN, "a", wide, height=64)[0].size == (64, 64)
    assert pipeline.draw(CHAIN, "a", wide, output_type="np").shape == (1, 64, 64, 3)
    assert pipeline.draw(CHAIN, "a", height=32, width=96)[0].size == (96, 32)


# ---------------------------------------------------------------- arguments


def test_every_output_type_shows_the_same_picture(pipeline: GoTPipeline) -> None:
    pil, array, tensor, latent = (
        pipeline.draw(CHAIN, "x", generator=seeded(), output_type=kind)
        for kind in ("pil", "np", "pt", "latent")
    )
    assert array.shape == (1, 64, 64, 3)
    assert tensor.shape == (1, 3, 64, 64)
    assert np.array_equal(array, tensor.permute(0, 2, 3, 1).numpy())
    assert np.abs(pixels(pil) / 255 - array).max() < 0.5 / 255 + 1e-6
    with torch.no_grad():
        assert np.array_equal(pipeline.decode(latent, "np"), array)


def test_a_call_gives_a_tuple_on_request(pipeline: GoTPipeline) -> None:
    images, chains, dropped = pipeline("a cat", return_dict=False)
    assert len(images) == len(chains) == len(dropped) == 1


def test_the_callback_gets_what_it_asks_for_and_may_stop_the_drawing(pipeline: GoTPipeline) -> None:
    names = ["latents", "context", "spatial", "reference", "pooled", "null"]
    seen: list[set[str]] = []

    def callback(pipe: GoTPipeline, index: int, t: torch.Tensor, values: dict) -> dict:
        seen.append(set(values))
        pipe._interrupt = index == 1
        return {"spatial": torch.ones_like(values["spatial"]), "latents": values["latents"]}

    arguments = {"num_inference_steps": 4, "output_type": "latent", "generator": seeded()}
    changed = pipeline.draw(
        CHAIN,
        "x",
        callback_on_step_end=callback,
        callback_on_step_end_tensor_inputs=names,
        **arguments,
    )
    assert seen == [set(names)] * 2
    assert pipeline.interrupt
    stopped = pipeline.draw(
        CHAIN,
        "x",
        callback_on_step_end=lambda pipe, index, t, values: setattr(pipe, "_interrupt", index == 1),
        **arguments | {"generator": seeded()},
    )
    assert not torch.equal(changed, stopped)


DRAW_CASES: list[tuple[dict, str]] = [
    ({"prompt": []}, "`prompt` is empty"),
    ({"prompt": ["fine", " "]}, r"`prompt\[1\]` must be a non-empty string"),
    ({"prompt": 7}, r"`prompt\[0\]` must be a non-empty string, got 7"),
    ({"image": [SOURCE, SOURCE]}, "2 source images for 1 prompts"),
    ({"image": np.zeros((8, 8, 3))}, r"`image\[0\]` must be a PIL image, got ndarray"),
    ({"image": Image.new("RGB", (64, 2))}, "64x2 pixels is longer than 16:1"),
    ({"image": Image.new("RGB", (0, 0))}, r"`image\[0\]` has no pixels \(0x0\)"),
    ({"height": 65}, "multiples of 8, got 65 and 64"),
    ({"width": 0}, "`width` must be at least 1"),
    ({"height": 64.0}, "`height` must be a whole number"),
    ({"num_inference_steps": 0}, "`num_inference_steps` must be at least 1"),
    ({"num_inference_steps": True}, "`num_inference_steps` must be a whole number"),
    ({"num_images_per_prompt": 0}, "`num_images_per_prompt` must be at least 1"),
    ({"output_type": "jpeg"}, "`output_type` must be one of pil, np, pt, latent, got 'jpeg'"),
    ({"text_scale": float("nan")}, "`text_scale` must be a finite number"),
    ({"spatial_scale": "4"}, "`spatial_scale` must be a finite number, got '4'"),
    ({"text_scale": 10**400}, "`text_scale` must be a finite number"),
    ({"generator": [torch.Generator()] * 3}, "3 generators for 1 pictures"),
    ({"generator": [torch.Generator()], "num_images_per_prompt": 2}, "1 generators for 2 pictures"),
    ({"generator": 7}, "`generator` must be a torch.Generator or a list, got int"),
    ({"generator": [None]}, "`generator` must be a torch.Generator or a list, got NoneType"),
    ({"latents": torch.zeros(1, 4, 8, 8)}, r"`latents` must have shape \(1, 8, 8, 8\), got \(1, 4, 8, 8\)"),
    ({"keep_outside": True}, "`keep_outside` keeps what an edit does not touch: it needs `image`"),
    ({"latents": [0]}, "`latents` must be a tensor, got list"),
    ({"callback_on_step_end": 7}, "`callback_on_step_end` must be callable"),
    (
        {"callback_on_step_end_tensor_inputs": ["latents", "prompt_embeds"]},
        r"holds \['prompt_embeds'\]; possible are latents, context",
    ),
]


@pytest.mark.parametrize(("arguments", "message"), DRAW_CASES)
def test_bad_arguments_are_named_before_anything_runs(
    pipeline: GoTPipeline, arguments: dict, message: str
) -> None:
    arguments = {"prompt": "x", **arguments}
    with pytest.raises((ValueError, TypeError), match=message):
        pipeline(**arguments)
    with pytest.raises((ValueError, TypeError), match=message):
        pipeline.draw(CHAIN, **arguments)


@pytest.mark.parametrize("damaged", [lambda data: data[: len(data) // 2], lambda data: data[:60]])
def test_a_picture_that_does_not_decode_is_named_before_anything_runs(
    pipeline: GoTPipeline, damaged: Callable[[bytes], bytes]
) -> None:
    data = damaged(awkward.encode(Image.effect_noise((64, 64), 50), "PNG"))
    for ask in (pipeline, pipeline.plan, lambda *given: pipeline.draw(CHAIN, *given)):
        with pytest.raises(ValueError, match=r"`image\[1\]` cannot be read: \w+: "):
            ask(["x", "y"], [SOURCE, Image.open(io.BytesIO(data))])


@pytest.mark.parametrize(
    ("chains", "message"),
    [
        ([CHAIN, CHAIN], "2 chains for 1 prompts"),
        ([], "0 chains for 1 prompts"),
        (None, "0 chains for 1 prompts"),
        ("a cat (1,2),(3,4)", r"`chains\[0\]` must be a Chain, got str; read text with"),
    ],
)
def test_chains_must_be_chains_one_a_prompt(pipeline: GoTPipeline, chains: object, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        pipeline.draw(chains, "x")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"temperature": 0.0}, "`temperature` must be above 0, got 0.0; leave it out to decode greedily"),
        ({"temperature": float("inf")}, "`temperature` must be a finite number"),
        ({"top_p": 0.0}, r"`top_p` must lie in \(0, 1\]"),
        ({"top_p": 1.5}, r"`top_p` must lie in \(0, 1\]"),
        ({"max_new_tokens": 0}, "`max_new_tokens` must be at least 1"),
        ({"image": "picture.png"}, r"`image\[0\]` must be a PIL image, got str"),
    ],
)
def test_bad_planning_arguments_are_named(pipeline: GoTPipeline, arguments: dict, message: str) -> None:
    for ask in (pipeline, pipeline.plan, pipeline.write_chains):
        with pytest.raises((ValueError, TypeError), match=message):
            ask("x", **arguments)
    with pytest.raises(ValueError, match="2 generators for 1 prompts"):
        pipeline.plan("x", generator=[torch.Generator()] * 2)


def test_a_plan_may_be_changed_before_it_is_drawn(pipeline: GoTPipeline) -> None:
    moved, asked = move_box(CHAIN, 0, Box(500, 500, 800, 800)), []

    def on_plan(chain: Chain, prompt: str, has_image: bool) -> Chain:
        asked.append((prompt, has_image))
        return moved

    drawn = pipeline("a red circle", generator=seeded(), num_images_per_prompt=2, on_plan=on_plan)
    assert drawn.chains == [moved, moved]
    alone = pipeline.draw(moved, "a red circle", generator=seeded(), num_images_per_prompt=2)
    assert (pixels(drawn.images) == pixels(alone)).all()
    pipeline.edit_rounds(SOURCE, ["make it blue", "remove it"], on_plan=on_plan, num_inference_steps=1)
    assert asked == [("a red circle", False), ("make it blue", True), ("remove it", True)]
    with pytest.raises(TypeError, match="`on_plan` must be callable, got Chain"):
        pipeline("a red circle", on_plan=moved)
    with pytest.raises(TypeError, match=r"`chains\[0\]` must be a Chain, got NoneType"):
        pipeline("a red circle", on_plan=lambda *_: None)


def test_a_prompt_may_hold_any_marker(pipeline: GoTPipeline) -> None:
    drawn = pipeline(["add <|image_pad|>", "make it blue"], image=[SOURCE, SOURCE], generator=seeded())
    assert len(drawn.images) == 2


def test_no_picture_to_edit_in_rounds_is_said(pipeline: GoTPipeline) -> None:
    with pytest.raises(ValueError, match="`image` is empty; pass the picture to edit"):
        pipeline.edit_rounds(None, ["make it blue"])


def test_a_callback_may_ask_for_no_tensors(pipeline: GoTPipeline) -> None:
    seen = []

    def callback(pipe: GoTPipeline, step: int, t: torch.Tensor, tensors: dict) -> dict:
        seen.append(dict(tensors))
        return {}

    pipeline.draw(CHAIN, "x", callback_on_step_end=callback, callback_on_step_end_tensor_inputs=None)
    assert seen
    assert not any(seen)


@pytest.mark.parametrize(
    ("instructions", "options", "message"),
    [
        ([], {}, "one entry a round"),
        ("make it blue", {}, "one entry a round"),
        (["a", ["b", "c"]], {}, "1 source images for 2 prompts"),
        (["a", " "], {}, "non-empty string"),
        (["a", 5], {}, "non-empty string, got 5"),
        (["a"], {"output_type": "np", "prompt": "x"}, "does not take output_type, prompt"),
    ],
)
def test_bad_rounds_are_refused_before_the_first_is_drawn(
    pipeline: GoTPipeline, instructions: list, options: dict, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        pipeline.edit_rounds(SOURCE, instructions, **options)


# ---------------------------------------------------------------- memory


def test_slicing_and_tiling_reach_the_autoencoder_and_change_nothing(pipeline: GoTPipeline) -> None:
    chains = [CHAIN, parse("a cat (1,2),(300,400) and a dog (500,600),(700,800)")]

    def draw() -> np.ndarray:
        return pipeline.draw(chains, ["a", "b"], generator=seeded(), output_type="np")

    whole = draw()
    pipeline.enable_vae_slicing()
    pipeline.enable_vae_tiling()
    assert pipeline.vae.use_slicing and pipeline.vae.use_tiling
    assert np.abs(draw() - whole).max() < 1e-5
    pipeline.disable_vae_slicing()
    pipeline.disable_vae_tiling()
    assert not pipeline.vae.use_slicing and not pipeline.vae.use_tiling


def test_parts_may_have_different_precision() -> None:
    pipeline = sees_its_conditions(tiny_pipeline())
    for parts in (("mllm",), ("mllm", "unet"), ("mllm", "unet", "projector", "vae")):
        for name in parts:
            getattr(pipeline, name).to(torch.bfloat16)
        drawn = pipeline("a cat", SOURCE, output_type="pt", generator=seeded()).images
        assert torch.isfinite(drawn.float()).all()


# ---------------------------------------------------------------- saving


FRESH = """
import sys
import torch
from got_core.model.pipeline import GoTPipeline

pipe = GoTPipeline.from_pretrained(sys.argv[1])
pipe.set_progress_bar_config(disable=True)
drawn = pipe("a red circle", generator=torch.Generator().manual_seed(0), output_type="pt")
torch.save({"images": drawn.images, "chain": drawn.chains[0].to_model()}, sys.argv[2])
others = ("got_core.train", "got_assets", "dagster", "ray")
print(*sorted(name for name in sys.modules if name.startswith(others)))
"""


@pytest.mark.slow
@pytest.mark.parametrize("skip", [False, True])
def test_a_saved_pipeline_is_bit_identical_in_a_fresh_process(skip: bool, tmp_path: Path) -> None:
    config = replace(TINY, unet=replace(TINY.unet, input_skip=skip))
    pipeline, folder = sees_its_conditions(tiny_pipeline(config=config)), tmp_path / "model"
    pipeline.save_pretrained(folder, safe_serialization=True)
    before = pipeline("a red circle", generator=seeded(), output_type="pt")
    command = [sys.executable, "-c", FRESH, str(folder), str(tmp_path / "drawn.pt")]
    loaded = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    after = torch.load(tmp_path / "drawn.pt", weights_only=True)
    assert torch.equal(after["images"], before.images)
    assert after["chain"] == before.chains[0].to_model()
    assert loaded.strip() == ""
    assert not [path for path in folder.rglob("*") if path.suffix in {".bin", ".pt", ".pkl"}]


ANYHOW = """
import sys
import got_core.model.pipeline
from diffusers import DiffusionPipeline

pipe = DiffusionPipeline.from_pretrained(sys.argv[1])
print(*sorted(f"{name}={type(part).__name__}" for name, part in pipe.components.items()), type(pipe).__name__)
"""


@pytest.mark.slow
def test_diffusers_own_loader_finds_a_pipeline_whose_module_is_imported(tmp_path: Path) -> None:
    pipeline = with_skip(0.1)
    pipeline.save_pretrained(tmp_path, safe_serialization=True)
    command = [sys.executable, "-c", ANYHOW, str(tmp_path)]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert told[-1] == "GoTPipeline"
    assert {"unet=UNetWithInputSkip", "vae=PatchAutoencoder", "projector=GuidanceProjector"} <= set(told)
    assert told[:-1] == sorted(f"{name}={type(part).__name__}" for name, part in pipeline.components.items())


def test_module_paths_in_saved_pipelines_are_a_file_format(pipeline: GoTPipeline, tmp_path: Path) -> None:
    pipeline.save_pretrained(tmp_path, safe_serialization=True)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["_class_name"] == "GoTPipeline"
    assert index["vae"] == ["got_core.model.autoencoder", "PatchAutoencoder"]
    assert index["projector"] == ["got_core.model.guidance", "GuidanceProjector"]
    assert index["unet"] == ["diffusers", "UNet2DConditionModel"]
    assert index["mllm"] == ["transformers", "Qwen2_5_VLForConditionalGeneration"]


def with_skip(weight: float = 0.0) -> GoTPipeline:
    pipeline = tiny_pipeline(config=replace(TINY, unet=replace(TINY.unet, input_skip=True)))
    torch.nn.init.normal_(pipeline.unet.input_skip.weight, std=weight)
    return pipeline


def test_a_unet_with_a_skip_is_saved_as_one(tmp_path: Path) -> None:
    pipeline = with_skip(0.1)
    pipeline.save_pretrained(tmp_path, safe_serialization=True)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["unet"] == ["got_core.model.unet", "UNetWithInputSkip"]
    again = GoTPipeline.from_pretrained(tmp_path)
    assert torch.equal(again.unet.input_skip.weight, pipeline.unet.input_skip.weight)


def test_the_skip_carries_the_input_to_the_answer_and_is_nothing_at_first() -> None:
    unet = with_skip().unet
    channels = unet.config.out_channels
    inputs = {
        "sample": torch.randn(1, unet.config.in_channels, 8, 8, generator=seeded()),
        "timestep": 500,
        "encoder_hidden_states": torch.randn(1, 4, 32, generator=seeded()),
        "added_cond_kwargs": {"text_embeds": torch.zeros(1, 16), "time_ids": torch.zeros(1, 6)},
    }
    with torch.no_grad():
        before = unet(**inputs).sample
        torch.testing.assert_close(before, UNet2DConditionModel.forward(unet, **inputs).sample)
        # Gr, the second of three, to the answer.
        unet.input_skip.weight[:, channels : 2 * channels, 0, 0] = torch.eye(channels) / SKIP_GAIN
        after = unet(**inputs, return_dict=False)[0]
    torch.testing.assert_close(after - before, inputs["sample"][:, channels : 2 * channels])


def test_a_widened_skip_answers_as_before() -> None:
    unet = build_unet(replace(TINY, unet=replace(TINY.unet, input_skip=True)))
    torch.nn.init.normal_(unet.input_skip.weight)
    inputs = {
        "timestep": 500,
        "encoder_hidden_states": torch.randn(1, 4, 32, generator=seeded()),
        "added_cond_kwargs": {"text_embeds": torch.zeros(1, 16), "time_ids": torch.zeros(1, 6)},
    }
    sample = torch.randn(1, 3 * unet.config.in_channels, 8, 8, generator=seeded())
    with torch.no_grad():
        narrow = unet(sample[:, : unet.config.in_channels], **inputs).sample
        widen_input(unet)
        torch.testing.assert_close(unet(sample, **inputs).sample, narrow)
