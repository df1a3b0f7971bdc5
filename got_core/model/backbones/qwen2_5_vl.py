"""Qwen2.5-VL as the planner: its chat format, its inputs, where LoRA goes, and its small instances.

Belongs here: everything that only this family does. Not here: GoT's own tokens and prompts (`tokens`), and
published folders (``formats``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from PIL import Image
from torch import Tensor, nn
from transformers import (
    PreTrainedTokenizerBase,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from got_core.model.backbones.protocols import ChatFormat, Planner
from got_core.model.config import LanguageModelConfig
from got_core.model.recomputation import checkpoint_options
from got_core.pictures.colours import to_rgb

if TYPE_CHECKING:
    from peft import PeftModel

# -- messages -----------------------------------------------------------------------------------------

END_OF_TEXT = "<|endoftext|>"
IMAGE_PAD = "<|image_pad|>"

# Order of the published vocabulary, so that the small tokenizer holds the same tokens as the large one.
SPECIAL_TOKENS = (
    END_OF_TEXT,
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    IMAGE_PAD,
    "<|video_pad|>",
)

# Same messages in, same text out as the published template, for the two kinds of content GoT sends.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEMPLATE_WORDS = ("system\n", "user\n", "assistant\n", "You are a helpful assistant.")
"""What the template writes into every sequence."""


class QwenChat(ChatFormat):
    """Messages of Qwen2.5-VL: a picture is a grid of patches, several of which become one token."""

    picture = IMAGE_PAD
    reserved = ("im_", "endoftext", "vision_", "image_pad", "video_pad")

    def __init__(self, image_processor: Qwen2VLImageProcessorPil, image_size: int) -> None:
        self.image_processor = image_processor
        self.image_size = image_size
        side = image_size // (image_processor.patch_size * image_processor.merge_size)
        self.visual_tokens = side * side

    def pictures(self, images: Sequence[Image.Image], places: Tensor) -> dict[str, Tensor]:
        """Patches and grids of images stretched to the vision tower's square."""
        size = (self.image_size, self.image_size)
        resized = [to_rgb(image).resize(size, Image.Resampling.BICUBIC) for image in images]
        features = self.image_processor(images=resized, do_resize=False, return_tensors="pt")
        return {
            "pixel_values": features["pixel_values"],
            "image_grid_thw": features["image_grid_thw"],
            "mm_token_type_ids": places.int(),
        }


# -- the network --------------------------------------------------------------------------------------

LORA_TARGETS = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
TRAINED_WHOLE = ["embed_tokens", "lm_head", "input_layernorm", "post_attention_layernorm"]
_TOKENS = ("input_ids", "attention_mask")
_PICTURES = ("image_grid_thw", "mm_token_type_ids")


class QwenPlanner(Planner):
    """A ``Qwen2_5_VLForConditionalGeneration``."""

    outer_layers = ("embed", "lm_head", "lora_")

    def __init__(self, network: Qwen2_5_VLForConditionalGeneration) -> None:
        self.network = network

    @property
    def hidden_size(self) -> int:
        """Width of the language model."""
        return int(self.network.config.text_config.hidden_size)

    @staticmethod
    def chat_format(image_processor: Any, image_size: int) -> QwenChat:
        """See :class:`QwenChat`."""
        return QwenChat(image_processor, image_size)

    def hidden_states(self, batch: dict[str, Tensor]) -> Tensor:
        """See ``Planner``."""
        keys = (*_TOKENS, "pixel_values", *_PICTURES)
        inputs = {key: batch[key] for key in keys if key in batch}
        return self.network.model(**inputs, use_cache=False).last_hidden_state

    def logits(self, hidden: Tensor) -> Tensor:
        """See ``Planner``."""
        return self.network.lm_head(hidden)

    def rows(self, batch: dict[str, Tensor], rows: slice) -> dict[str, Tensor]:
        """See ``Planner``."""
        count = len(batch["input_ids"])
        chosen = {key: batch[key][rows] for key in (*_TOKENS, *_PICTURES) if key in batch}
        if "pixel_values" in batch:
            # Patches of all images lie in one row after the other, the same number for each.
            patches = batch["pixel_values"]
            chosen["pixel_values"] = patches.unflatten(0, (count, -1))[rows].flatten(0, 1)
        return chosen

    def parts(self) -> dict[str, nn.Module]:
        """Vision tower, language model and head."""
        inner = self.network.model
        return {
            "language model": inner.language_model,
            "head": self.network.lm_head,
            "vision tower": inner.visual,
        }

    def separate_head(self) -> None:
        """See ``Planner``."""
        network = self.network
        if network.config.tie_word_embeddings:
            untie(network.config)
            network.lm_head.weight = nn.Parameter(network.get_input_embeddings().weight.detach().clone())
            network.all_tied_weights_keys = {}

    def with_lora(self, *, rank: int, alpha: int, dropout: float, whole: bool = True) -> PeftModel:
        """LoRA on the language model's projections; with ``whole``, embeddings, head and norms are trained
        too; the vision tower never is.

        A head that shared the embedding's weights gets its own then: both are trained, each for itself.
        """
        from peft import LoraConfig, get_peft_model  # of the extra `pipeline`: drawing does without

        if whole:
            self.separate_head()
        lora = LoraConfig(
            r=rank,
            lora_alpha=alpha,
            lora_dropout=dropout,
            target_modules=LORA_TARGETS,
            modules_to_save=TRAINED_WHOLE if whole else None,
        )
        return get_peft_model(self.network, lora)

    def set_checkpointing(self, wanted: bool, *, selective: bool = False) -> None:
        """See ``Backbone``. To be called behind :meth:`with_lora`, which adds hooks of its own."""
        if wanted:
            self.network.gradient_checkpointing_enable(checkpoint_options(selective=selective))
        else:
            self.network.gradient_checkpointing_disable()
        # Its hooks make the frozen vision tower's input need a gradient; backward would run through it.
        self.network.disable_input_require_grads()


def untie(config: Qwen2_5_VLConfig) -> None:
    """Give the head weights of its own. Both flags: transformers reads the outer one from the inner."""
    config.tie_word_embeddings = False
    config.text_config.tie_word_embeddings = False


# -- instances of any size ----------------------------------------------------------------------------


def build_language_model(
    config: LanguageModelConfig, tokenizer: PreTrainedTokenizerBase
) -> Qwen2_5_VLForConditionalGeneration:
    """A Qwen2.5-VL model at the configured size for this tokenizer, with fresh weights."""

    def ids(token: str) -> int:
        return int(tokenizer.convert_tokens_to_ids(token))

    sizes = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": config.vocabulary or len(tokenizer),
            "rms_norm_eps": config.rms_norm_epsilon,
            "tie_word_embeddings": config.tie_embeddings,
            "hidden_size": config.hidden_size,
            "intermediate_size": config.intermediate_size,
            "num_hidden_layers": config.layers,
            "initializer_range": config.initializer_range,
            "num_attention_heads": config.heads,
            "num_key_value_heads": config.key_value_heads,
            "max_position_embeddings": config.max_positions,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": config.rope_theta,
                "mrope_section": list(config.mrope_section),
            },
            "bos_token_id": ids(END_OF_TEXT),
            "eos_token_id": ids(END_OF_TEXT),
            "pad_token_id": ids(END_OF_TEXT),
        },
        vision_config={
            "depth": config.vision_layers,
            "initializer_range": config.initializer_range,
            "hidden_size": config.vision_hidden_size,
            "intermediate_size": config.vision_intermediate_size,
            "num_heads": config.vision_heads,
            "patch_size": config.patch_size,
            "spatial_merge_size": config.merge_size,
            "window_size": config.vision_window or config.image_size,
            "out_hidden_size": config.hidden_size,
            "fullatt_block_indexes": _full_attention(config),
            "tokens_per_second": config.vision_tokens_per_second,
        },
        initializer_range=config.initializer_range,
        tie_word_embeddings=config.tie_embeddings,
        image_token_id=ids(IMAGE_PAD),
        video_token_id=ids("<|video_pad|>"),
        vision_start_token_id=ids("<|vision_start|>"),
        vision_end_token_id=ids("<|vision_end|>"),
    )
    return Qwen2_5_VLForConditionalGeneration(sizes)


def _full_attention(config: LanguageModelConfig) -> list[int]:
    chosen = config.vision_full_attention
    return list(range(config.vision_layers)) if chosen is None else list(chosen)


def build_image_processor(config: LanguageModelConfig) -> Qwen2VLImageProcessorPil:
    """The image processor of the vision tower (PIL backend, no torchvision)."""
    return Qwen2VLImageProcessorPil(
        patch_size=config.patch_size,
        merge_size=config.merge_size,
        size={"shortest_edge": config.image_size**2, "longest_edge": config.image_size**2},
    )
