"""Sizes and numerical choices of a GoT model, as plain data.

Nothing here imports torch, so recipes can be read by a code server without loading it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class LanguageModelConfig:
    """Sizes of the multimodal language model, a ``Qwen2_5_VLForConditionalGeneration``."""

    hidden_size: int = 192
    """Width of the language model; also the width of the guidance it hands to the U-Net."""
    layers: int = 4
    heads: int = 6
    """Attention heads. Width divided by heads should be at least 32, the smallest head that vLLM serves."""
    key_value_heads: int = 6
    intermediate_size: int = 512
    mrope_section: tuple[int, int, int] = (4, 6, 6)
    """Rotary channels for time, height and width; the sum is half of a head."""
    max_positions: int = 1024
    rope_theta: float = 10_000.0
    """Base of the rotary frequencies."""
    rms_norm_epsilon: float = 1e-5
    vocabulary: int | None = None
    """Rows of the embedding; None: as many as the tokenizer has tokens."""
    tie_embeddings: bool = False
    """Whether the head shares the embedding's weights."""
    initializer_range: float = 0.06
    """Standard deviation of fresh weights. At this width the usual 0.02 takes several times longer to learn
    to copy words from the prompt into the chain."""
    vision_hidden_size: int = 128
    vision_layers: int = 3
    vision_heads: int = 4
    vision_intermediate_size: int = 256
    patch_size: int = 8
    merge_size: int = 2
    """Patches that become one visual token, per axis."""
    vision_window: int | None = None
    """Side in pixels of the windows inside which most vision layers attend; None: the whole image."""
    vision_full_attention: tuple[int, ...] | None = None
    """Indexes of the vision layers that attend over the whole image; None: all of them."""
    vision_tokens_per_second: int = 4
    image_size: int = 64
    """Side in pixels to which the source image of an edit is stretched (448 in the paper)."""


@dataclass(frozen=True, kw_only=True)
class AutoencoderConfig:
    """Sizes of the autoencoder: the small patch autoencoder, or diffusers' ``AutoencoderKL``."""

    kind: Literal["patch", "kl"] = "patch"
    patch_size: int = 8
    """Pixels a latent cell covers, per axis. Of ``kl``: 2 to the power of the levels but one."""
    latent_channels: int = 32
    balance: float = 0.5
    """How far the components' variances are evened out, 0 to 1 (see ``PatchAutoencoder.fit_projection``)."""
    refiner_channels: int = 48
    """Of ``patch``: width of the residual decoder; 0 leaves the linear decoder alone."""
    block_out_channels: tuple[int, ...] = (128, 256, 512, 512)
    """Of ``kl``: channels of each level. The other numbers of ``kl`` are SDXL's too."""
    layers_per_block: int = 2
    """Of ``kl``: residual layers of a level."""
    scaling_factor: float = 1.0
    """What latents are multiplied by before noise is added (0.13025 in SDXL)."""

    def __post_init__(self) -> None:
        stride = 2 ** (len(self.block_out_channels) - 1)
        if self.kind == "kl" and self.patch_size != stride:
            raise ValueError(
                f"AutoencoderConfig.patch_size is {self.patch_size}, but the "
                f"{len(self.block_out_channels)} levels of a kl autoencoder make it {stride}"
            )


@dataclass(frozen=True, kw_only=True)
class UNetConfig:
    """Sizes of the ``UNet2DConditionModel``; latent channels come from the autoencoder."""

    block_out_channels: tuple[int, ...] = (96, 192)
    layers_per_block: int = 1
    attention_heads: int | tuple[int, ...] = 6
    """Heads of a level (diffusers calls this argument ``attention_head_dim``)."""
    transformer_layers: int | tuple[int, ...] = 1
    """Transformer layers of an attention block, of each level."""
    attention_levels: tuple[bool, ...] | None = None
    """Which levels attend to the context, the finest first; None: all."""
    middle_block: bool = True
    """Whether there is a block between the way down and the way up."""
    norm_groups: int = 16
    input_skip: bool = False
    """Whether a linear map of the input is added to the answer (see ``UNetWithInputSkip``)."""
    cross_attention_dim: int = 192
    pooled_dim: int = 64
    """Width of the pooled text embedding (1280 in SDXL)."""
    time_id_dim: int = 16
    """Sinusoidal channels for each of the six size and crop numbers (256 in SDXL)."""


@dataclass(frozen=True, kw_only=True)
class SchedulerConfig:
    """Which diffusers scheduler the pipeline carries and what the U-Net is trained to predict."""

    name: str = "FlowMatchEulerDiscreteScheduler"
    options: dict[str, float | int | str | bool] = field(default_factory=lambda: {"shift": 1.0})
    prediction: str = "sample"
    """What the U-Net answers. ``epsilon``: the noise (the paper's, with SDXL's DDPM scheduler). ``flow``:
    noise minus data, on a straight path. ``sample``: the clean latent, on the same path; where a latent cell
    has many channels for the U-Net's width this learns fastest, for the noise need not pass through it."""


@dataclass(frozen=True, kw_only=True)
class GuidanceScales:
    """The three scales of the guidance formula (paper section 4.3)."""

    text: float
    spatial: float
    reference: float

    def as_tuple(self) -> tuple[float, float, float]:
        """Text, spatial, reference."""
        return (self.text, self.spatial, self.reference)


@dataclass(frozen=True, kw_only=True)
class GuidanceReuse:
    """At which steps of a drawing every branch of the guidance formula is computed; at the others one is.

    The one is the branch with all conditions whose scales are not 0. Outside the interval it is the
    prediction itself (Kynkaanniemi et al., 2024, arXiv 2404.07724). Inside, the formula's distance from it is
    computed at every n-th step and added to it at the steps between. Raises ValueError or TypeError for
    numbers that cannot be used.
    """

    interval: tuple[float, float] = (0.0, 1.0)
    """Where there is guidance, in shares of the steps, from 0 before the first to 1 after the last. Step k of
    n, counted from 0, reaches from k / n to (k + 1) / n; one that is partly inside is guided."""
    every: int = 1
    """Steps inside the interval from one computed distance to the next; 1: computed at each."""

    def __post_init__(self) -> None:
        if not isinstance(self.every, Integral) or isinstance(self.every, bool) or self.every < 1:
            raise ValueError(f"GuidanceReuse.every must be a whole number of at least 1, got {self.every!r}")
        bounds = tuple(self.interval) if isinstance(self.interval, tuple | list) else ()
        if len(bounds) != 2 or not all(isinstance(b, Real) and not isinstance(b, bool) for b in bounds):
            raise ValueError(f"GuidanceReuse.interval must be two numbers, got {self.interval!r}")
        if not 0 <= bounds[0] < bounds[1] <= 1:
            raise ValueError(
                "GuidanceReuse.interval must be a start and a later end between 0 and 1, in shares of the "
                f"steps, got {bounds}"
            )
        object.__setattr__(self, "interval", (float(bounds[0]), float(bounds[1])))
        object.__setattr__(self, "every", int(self.every))

    @classmethod
    def chosen(
        cls, start: float | None = None, end: float | None = None, every: int | None = None
    ) -> GuidanceReuse | None:
        """From single numbers, as commands and requests take them; None where none of them is given."""
        if start is None and end is None and every is None:
            return None
        interval = (0.0 if start is None else start, 1.0 if end is None else end)
        return cls(interval=interval, every=1 if every is None else every)

    def inside(self, steps: int) -> list[int]:
        """Which of so many steps, counted from 0, are guided."""
        start, end = self.interval
        return [step for step in range(steps) if (step + 1) / steps > start and step / steps < end]

    def computed(self, steps: int) -> list[int]:
        """At which of them every branch is computed."""
        return self.inside(steps)[:: self.every]

    def passes(self, steps: int, branches: int) -> int:
        """Passes through the drawing network for one picture, of a formula with so many branches."""
        return steps + (branches - 1) * len(self.computed(steps))


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A whole GoT model."""

    resolution: int = 64
    """Side in pixels of the pictures it draws."""
    image_tokens: int = 8
    """Learned tokens whose hidden states guide the U-Net (64 in the paper)."""
    language_model: LanguageModelConfig = LanguageModelConfig()
    autoencoder: AutoencoderConfig = AutoencoderConfig()
    unet: UNetConfig = UNetConfig()
    scheduler: SchedulerConfig = SchedulerConfig()
    generate_scales: GuidanceScales = GuidanceScales(text=1.5, spatial=1.5, reference=1.0)
    """Scales for text to image."""
    edit_scales: GuidanceScales = GuidanceScales(text=1.5, spatial=1.5, reference=1.0)
    inference_steps: int = 16
    max_new_tokens: int = 160
    """Longest chain, in tokens."""
    reasoning: bool = True
    """Whether a chain stands between the prompt and the image tokens. Without it the paper's baseline is
    left: the U-Net is guided by what the language model makes of the bare prompt."""
    spatial_guidance: bool = True
    """Whether the chain's boxes are painted for the U-Net (Gs); else Gs is the null latent, always."""

    def __post_init__(self) -> None:
        if self.spatial_guidance and not self.reasoning:
            raise ValueError(
                "ModelConfig.spatial_guidance paints the boxes of a chain, and a model without reasoning has "
                "none: switch it off too"
            )


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Weights and noise of the joint loss."""

    text_weight: float = 1.0
    diffusion_weight: float = 1.0
    drop: float = 0.05
    """Share of samples for each of the three partly conditioned branches; the rest sees all conditions."""
    dropped_weight: float = 1.0
    """Weight of the samples that go without conditions. Theirs are the large errors: at full weight they take
    most of a young model's gradient, which then learns to bind words to boxes several times slower."""
    kept_weight: float = 1.0
    """Of edits: weight of the squared error outside the chain's boxes, where the source shows what to answer.
    Joint training without reasoning takes 1, for boxes are not that model's to know. Words nearly tell a
    background, so at 1 little is left of the error that teaches to look at the source."""
    noise_offset: float = 0.0
    """Strength of the per-channel constant added to the noise (0.1 in the paper)."""
    language_share: float = 1.0
    """Share of a batch's rows from which the language model learns. The others guide the U-Net with hidden
    states that carry no gradient: a small U-Net needs to see many more pictures than its language model."""
    prediction: str = "sample"
    """As in the model's scheduler: ``epsilon``, ``flow`` or ``sample``."""
    noise_mean: float = 0.0
    """Of ``flow`` and ``sample``: mean of the noise levels' logit. At 0 half of the samples are less than
    half noise; what stands where can be seen in those, so they teach nothing about words and boxes."""
    smallest_weighted_sigma: float = 0.3
    """Of ``sample``: errors count as errors of the velocity, 1 / sigma squared, with sigma no smaller than
    this; else the last, hardly visible traces of noise would take most of the gradient."""
