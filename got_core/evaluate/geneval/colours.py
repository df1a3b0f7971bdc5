"""Colours of objects by CLIP, as GenEval's script classifies them.

Belongs here: the crop of an object, the texts of the ten colours, and which is nearest. Not here: finding
objects (`mask2former`), or which of them need a colour (`detections`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from got_core.evaluate.detector import DetectorError
from got_core.evaluate.network_folders import (
    check_files,
    checked_type,
    file_hashes,
    load_model,
    load_processor,
    load_tokenizer,
    tokenizer_files,
    weight_files,
)
from got_core.evaluate.protocol import Network, text_sha256
from got_core.planning.geneval import COLORS, XYXY

if TYPE_CHECKING:
    import numpy as np
    import torch

TEMPLATES = (
    "a photo of a {color} {cls}",
    "a photo of a {color}-colored {cls}",
    "a photo of a {color} object",
)
BACKGROUND = "#999999"
"""What is outside an object's mask is painted with it."""

PUBLISHED = "openai/clip-vit-large-patch14"
_FILES = ("config.json", "preprocessor_config.json")
_BATCH = 16


@dataclass(frozen=True)
class ColourCrop:
    """An object of which the colour is wanted."""

    image: Image.Image
    """The whole picture in RGB."""

    box: XYXY
    """In pixels."""

    mask: np.ndarray
    """Booleans, height x width of the picture."""

    cls: str

    def picture(self) -> Image.Image:
        """The object on BACKGROUND, cropped to its box."""
        blank = Image.new("RGB", self.image.size, BACKGROUND)
        shown = Image.composite(self.image, blank, Image.fromarray(self.mask))
        x1, y1, x2, y2 = self.box
        return shown.crop((round(x1), round(y1), round(x2), round(y2)))


class ClipColours:
    """A CLIP folder as a classifier of colours. Raises NetworkError where it does not hold a whole one."""

    def __init__(self, folder: Path, *, device: str = "cpu", dtype: str = "float32") -> None:
        from transformers import CLIPModel
        from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

        check_files(folder, PUBLISHED, _FILES)
        checked_type(folder, PUBLISHED, "clip")
        self.folder, self.device, self.dtype = folder, device, dtype
        self.processor = load_processor(CLIPImageProcessorPil, folder, PUBLISHED)
        self.model = load_model(CLIPModel, folder, PUBLISHED, device=device, dtype=dtype)
        self.tokenizer = load_tokenizer(folder, self.model.config.text_config)
        self._texts: dict[str, torch.Tensor] = {}

    @cached_property
    def network(self) -> Network:
        """For a protocol."""
        read = [*(self.folder / name for name in _FILES), *tokenizer_files(self.folder)]
        return Network(
            name="CLIP",
            files=file_hashes([*weight_files(self.folder, PUBLISHED), *read]),
            settings={"dtype": self.dtype, "background": BACKGROUND},
        )

    @property
    def resize(self) -> dict[str, Any]:
        """How crops are brought to CLIP's size."""
        return preprocessing(self.processor)

    @property
    def prompt_texts(self) -> dict[str, str]:
        """Hashes of templates and colours."""
        return {"colour templates": text_sha256("\n".join([*TEMPLATES, *COLORS]))}

    def colours(self, crops: Sequence[ColourCrop]) -> list[str]:
        """The colour of each object. Raises DetectorError where CLIP gives NaN."""
        import torch

        named: list[str] = []
        for start in range(0, len(crops), _BATCH):
            batch = crops[start : start + _BATCH]
            features = self.image_features([crop.picture() for crop in batch])
            texts = torch.stack([self.text_features(crop.cls) for crop in batch])
            likeness = torch.einsum("nd,ncd->nc", features, texts)
            if not bool(torch.isfinite(likeness).all()):
                raise DetectorError(f"CLIP in {self.folder} gives NaN as {self.dtype}; take float32")
            named += [COLORS[int(best)] for best in likeness.argmax(1)]
        return named

    def image_features(self, pictures: Sequence[Image.Image]) -> torch.Tensor:
        """Unit vectors (n, d) in float32."""
        import torch

        pixels = self.processor(images=list(pictures), return_tensors="pt")["pixel_values"]
        with torch.inference_mode():
            found = self.model.get_image_features(pixel_values=pixels.to(self.device, self.model.dtype))
        return _unit(found.pooler_output)

    def text_features(self, cls: str) -> torch.Tensor:
        """Unit vectors (colours, d) of a class: each template's unit vector, averaged, normalised again."""
        import torch

        if cls not in self._texts:
            texts = [template.format(color=color, cls=cls) for color in COLORS for template in TEMPLATES]
            inputs = self.tokenizer(texts, padding=True, return_tensors="pt").to(self.device)
            with torch.inference_mode():
                found = _unit(self.model.get_text_features(**inputs).pooler_output)
            self._texts[cls] = _unit(found.view(len(COLORS), len(TEMPLATES), -1).mean(1))
        return self._texts[cls]


def _unit(vectors: Any) -> Any:
    import torch

    return torch.nn.functional.normalize(vectors.float(), dim=-1)


def preprocessing(processor: Any) -> dict[str, Any]:
    """What an image processor does to a picture, for a protocol."""
    names = ("do_resize", "size", "resample", "do_center_crop", "crop_size", "image_mean", "image_std")
    said = processor.to_dict()
    return {name: said[name] for name in names if said.get(name) is not None}
