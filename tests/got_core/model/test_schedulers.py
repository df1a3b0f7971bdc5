"""Drawing with schedulers of diffusers: epsilon, flow and clean-latent predictions."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler, SchedulerMixin
from PIL import Image

from got_core.chain.grammar import parse
from got_core.model.build import fresh_pipeline
from got_core.model.config import GuidanceScales, SchedulerConfig
from got_core.model.guidance import Branch, branches
from got_core.model.pipeline import GoTPipeline
from got_core.model.tokens import train_tokenizer
from tests.got_core.tiny_pipeline import TINY, sees_its_conditions

CHAIN = parse("a red circle (100,100),(400,400) and a cross (500,500),(900,900)")
SDXL = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
EPSILON = [
    ("DDPMScheduler", SDXL),
    ("DDIMScheduler", SDXL | {"clip_sample": False, "steps_offset": 1}),
    ("EulerDiscreteScheduler", SDXL | {"timestep_spacing": "leading", "steps_offset": 1}),
    ("EulerAncestralDiscreteScheduler", SDXL),
    ("DPMSolverMultistepScheduler", SDXL),
    ("HeunDiscreteScheduler", SDXL),
    ("LCMScheduler", SDXL),
    ("LMSDiscreteScheduler", SDXL),
    ("PNDMScheduler", SDXL | {"skip_prk_steps": True}),
    ("UniPCMultistepScheduler", SDXL),
]
FLOW = [
    ("FlowMatchEulerDiscreteScheduler", {"shift": 3.0}),
    ("FlowMatchEulerDiscreteScheduler", {"use_dynamic_shifting": True}),
    ("FlowMatchHeunDiscreteScheduler", {}),
    ("FlowMatchLCMScheduler", {"shift": 3.0}),
]
FLOW_SIGMAS = {"prediction_type": "flow_prediction", "use_flow_sigmas": True}
STOCHASTIC = ("DDPMScheduler", "EulerAncestralDiscreteScheduler")


def build(name: str, options: dict, prediction: str) -> GoTPipeline:
    config = replace(TINY, scheduler=SchedulerConfig(name=name, options=options, prediction=prediction))
    tokenizer = train_tokenizer(["a red circle (1,2),(3,4)"], TINY.image_tokens)
    return sees_its_conditions(fresh_pipeline(config, tokenizer))


def latents(pipeline: GoTPipeline, seed: int = 0, **arguments: object) -> torch.Tensor:
    arguments = {"num_inference_steps": 4, **arguments}
    generator = torch.Generator().manual_seed(seed)
    return pipeline.draw(CHAIN, "a red circle", generator=generator, output_type="latent", **arguments)


@pytest.mark.parametrize(
    ("name", "options", "prediction"),
    [
        *((*case, "epsilon") for case in EPSILON),
        *((*case, kind) for case in FLOW for kind in ("flow", "sample")),
        ("UniPCMultistepScheduler", FLOW_SIGMAS, "flow"),
        ("DPMSolverMultistepScheduler", FLOW_SIGMAS | {"use_dynamic_shifting": True}, "flow"),
        ("DDIMScheduler", {"prediction_type": "sample"}, "sample"),
        ("DDIMScheduler", SDXL | {"prediction_type": "v_prediction"}, "v_prediction"),
    ],
)
def test_schedulers_draw_finite_latents_that_depend_on_the_seed_alone(
    name: str, options: dict, prediction: str
) -> None:
    pipeline = build(name, options, prediction)
    first, again, other = latents(pipeline, 1), latents(pipeline, 1), latents(pipeline, 2)
    assert first.shape == (1, TINY.autoencoder.latent_channels, 8, 8)
    assert torch.isfinite(first).all()
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_larger_pictures_shift_the_steps_of_schedulers_that_ask_for_it() -> None:
    pipeline = build("FlowMatchEulerDiscreteScheduler", {"use_dynamic_shifting": True}, "flow")
    firsts = []
    for side in (64, 128):
        latents(pipeline, height=side, width=side)
        firsts.append(pipeline.scheduler.timesteps[1].item())
    assert firsts[1] > firsts[0]


@pytest.mark.parametrize("arguments", [{}, {"image": Image.new("RGB", (64, 64))}], ids=["text", "edit"])
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_the_network_is_called_once_a_step_at_evenly_spaced_noise_levels(steps: int, arguments: dict) -> None:
    pipeline, seen = build("FlowMatchEulerDiscreteScheduler", {}, "flow"), []
    for keep in (False, True)[: 1 + len(arguments)]:
        hook = pipeline.unet.register_forward_pre_hook(lambda _, given: seen.append(float(given[1])))
        latents(pipeline, num_inference_steps=steps, keep_outside=keep, **arguments)
        hook.remove()
        assert seen == pytest.approx([1000 * (steps - k) / steps for k in range(steps)])
        seen.clear()


def test_steps_that_the_scheduler_cannot_take_are_refused_before_anything_is_drawn() -> None:
    pipeline = build("DDPMScheduler", SDXL | {"timestep_spacing": "leading", "steps_offset": 1}, "epsilon")
    pipeline.unet.register_forward_pre_hook(lambda *_: pytest.fail("the network was called"))
    pipeline.mllm.register_forward_pre_hook(lambda *_: pytest.fail("the language model was called"))
    for steps in (1000, 1001, 10**9):
        with pytest.raises(ValueError, match=rf"`num_inference_steps` = {steps} does not fit DDPMScheduler"):
            latents(pipeline, num_inference_steps=steps)
        with pytest.raises(ValueError, match=r"a smaller number that does is (999|1000)$"):
            pipeline("a red circle", num_inference_steps=steps)


def test_a_scheduler_that_cannot_make_noisy_again_keeps_no_source() -> None:
    pipeline = build("IPNDMScheduler", {}, "epsilon")
    assert torch.isfinite(latents(pipeline)).all()
    with pytest.raises(ValueError, match="which IPNDMScheduler cannot; set another one"):
        latents(pipeline, image=Image.new("RGB", (64, 64)), keep_outside=True)


@pytest.mark.parametrize(("name", "options"), [case for case in EPSILON if case[0] in STOCHASTIC])
def test_noise_added_between_steps_comes_from_the_generator(name: str, options: dict) -> None:
    pipeline = build(name, options, "epsilon")
    start = torch.randn(2, TINY.autoencoder.latent_channels, 8, 8)
    chains, prompts = [CHAIN, CHAIN], ["a", "b"]

    def draw(seeds: list[int]) -> torch.Tensor:
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        return pipeline.draw(chains, prompts, latents=start, generator=generators, output_type="latent")

    both = draw([1, 2])
    assert torch.equal(both, draw([1, 2]))
    assert torch.equal(both[0], draw([1, 3])[0])
    assert not torch.equal(both[1], draw([1, 3])[1])


def test_eta_reaches_the_schedulers_that_have_it() -> None:
    pipeline = build(*EPSILON[1], "epsilon")
    assert not torch.equal(latents(pipeline, 1), latents(pipeline, 1, eta=1.0))
    assert torch.equal(latents(pipeline, 1, eta=1.0), latents(pipeline, 1, eta=1.0))
    flow = build(*FLOW[0], "flow")
    assert torch.equal(latents(flow, 1), latents(flow, 1, eta=1.0))


@pytest.mark.parametrize(
    "scheduler",
    [
        DDIMScheduler(**SDXL, clip_sample=False, steps_offset=1),
        EulerDiscreteScheduler(**SDXL, timestep_spacing="trailing"),
    ],
    ids=["ddim", "euler"],
)
@torch.no_grad()
def test_the_loop_is_the_schedulers_own(scheduler: SchedulerMixin) -> None:
    pipeline = build("DDPMScheduler", SDXL, "epsilon")
    pipeline.scheduler = scheduler
    scales = GuidanceScales(text=4.0, spatial=3.0, reference=1.5)
    shape = (1, TINY.autoencoder.latent_channels, 8, 8)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    drawn = latents(
        pipeline,
        latents=noise,
        num_inference_steps=6,
        **{f"{name}_scale": value for name, value in vars(scales).items()},
    )
    conditions = pipeline.encode_conditions([CHAIN], ["a red circle"], None, 64, 64)
    reference = type(scheduler).from_config(scheduler.config)
    reference.set_timesteps(6)
    sample = noise * reference.init_noise_sigma
    for t in reference.timesteps:
        given = reference.scale_model_input(sample, t)
        nothing, only_source, text, everything = (
            pipeline.predict(given, t, conditions, [Branch(*seen, weight=1.0)], (64, 64))
            for seen in ((False, False, False), (False, False, True), (True, False, True), (True, True, True))
        )
        guided = (
            nothing
            + scales.text * (text - only_source)
            + scales.spatial * (everything - text)
            + scales.reference * (only_source - nothing)
        )
        sample = reference.step(guided, t, sample).prev_sample
    assert len(branches(scales)) == 4
    torch.testing.assert_close(drawn, sample, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("name", "options", "prediction", "message"),
    [
        (*FLOW[0], "epsilon", "FlowMatchEulerDiscreteScheduler steps with a velocity"),
        ("DDIMScheduler", {"prediction_type": "v_prediction"}, "epsilon", "prediction_type 'v_prediction'"),
        ("DDPMScheduler", {}, "sample", "predicts 'sample', but DDPMScheduler"),
    ],
)
def test_a_scheduler_for_another_prediction_is_refused(
    name: str, options: dict, prediction: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        latents(build(name, options, prediction))
