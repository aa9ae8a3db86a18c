"""How well sentences go with a picture, by an image-text encoder of the CLIP or SigLIP kind.

It is CSR's R_I (arXiv 2405.14622): max(100 cos(picture, sentence), 0). Its figures have no scale that two
encoders share, so only ranks of them are used (`selection.ranking`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModel, AutoProcessor

from illume_plugin.base_model import open_image
from illume_plugin.errors import ModelError
from illume_plugin.sentences import sentences

#: Pictures or sentences encoded at a time.
BATCH = 64

# What transformers raises for a model it cannot load; which one depends on the architecture.
_LOAD_ERRORS = (
    OSError,
    ValueError,
    ImportError,
    AttributeError,
    TypeError,
    KeyError,
    RuntimeError,
    SafetensorError,
)


@dataclass(frozen=True)
class ImageTextEncoder:
    """A frozen encoder of pictures and texts into one space.

    Attributes:
        source: the folder or hub id it was loaded from.
        longest: tokens of a text at most; what is longer is cut.
        pad_to_longest: whether it was trained on texts padded to that length, as SigLIP was.
    """

    model: Any
    processor: Any
    source: str
    device: torch.device
    longest: int
    pad_to_longest: bool
    _seen: dict[tuple[Path, int], torch.Tensor] = field(default_factory=dict, repr=False, compare=False)

    def relevances(
        self, images: Sequence[Path], texts: Sequence[Sequence[str]]
    ) -> list[list[tuple[float, ...]]]:
        """Relevance of every sentence of every text to its picture, each in [0, 100].

        Args:
            images: picture of each task, a local file.
            texts: the candidates of each task.

        Returns:
            For each picture, for each of its texts, one figure for each sentence; none for a blank text.

        Raises:
            ImageError: a picture cannot be read.
        """
        parts = [[sentences(text) for text in some] for some in texts]
        flat = [(task, part) for task, some in enumerate(parts) for text in some for part in text]
        if not flat:
            return [[() for _ in some] for some in parts]
        seen = self._pictures(images)
        read = self._encode([part for _, part in flat], self._read)
        cosines = (seen[torch.tensor([task for task, _ in flat], device=self.device)] * read).sum(dim=-1)
        values = iter((100 * cosines).clamp(min=0).tolist())
        return [[tuple(islice(values, len(text))) for text in some] for some in parts]

    def _pictures(self, images: Sequence[Path]) -> torch.Tensor:
        """Unit vectors of pictures, shape (images, width); of those that were asked for last, from memory.

        A search over sentences asks for the same pictures at every step.
        """
        keys = [(image, image.stat().st_mtime_ns if image.exists() else 0) for image in images]
        known = {key: vector for key in keys if (vector := self._seen.get(key)) is not None}
        new = [key for key in dict.fromkeys(keys) if key not in known]
        if new:
            vectors = self._encode([image for image, _ in new], self._see)
            known |= dict(zip(new, vectors, strict=True))
            self._seen.clear()
            self._seen.update(known)
        return torch.stack([known[key] for key in keys])

    def _encode(self, items: Sequence[Any], encode: Any) -> torch.Tensor:
        """Unit vectors, shape (items, width)."""
        with torch.inference_mode():
            parts = [encode(items[start : start + BATCH]) for start in range(0, len(items), BATCH)]
        return torch.nn.functional.normalize(torch.cat(parts).float(), dim=-1)

    def _see(self, images: Sequence[Path]) -> torch.Tensor:
        pictures = [open_image(image) for image in images]
        inputs = self.processor.image_processor(images=pictures, return_tensors="pt").to(self.device)
        return _vectors(self.model.get_image_features(**inputs))

    def _read(self, texts: Sequence[str]) -> torch.Tensor:
        inputs = self.processor.tokenizer(
            list(texts),
            padding="max_length" if self.pad_to_longest else True,
            truncation=True,
            max_length=self.longest,
            return_tensors="pt",
        ).to(self.device)
        return _vectors(self.model.get_text_features(**inputs))


def load_encoder(
    source: str | Path, *, device: str | torch.device | None = None, trust_remote_code: bool = False
) -> ImageTextEncoder:
    """Load an image-text encoder, frozen, from a folder or a hub id; safetensors only.

    Args:
        device: where to put it; the first GPU, or else the processor.

    Raises:
        ModelError: it is missing, not safetensors, or does not encode both pictures and texts.
    """
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    where = str(source)
    try:
        processor = AutoProcessor.from_pretrained(where, trust_remote_code=trust_remote_code)
        model = AutoModel.from_pretrained(where, use_safetensors=True, trust_remote_code=trust_remote_code)
    except _LOAD_ERRORS as error:
        raise _unusable(where, (str(error).strip() or type(error).__name__).splitlines()[0]) from error
    if not (hasattr(model, "get_image_features") and hasattr(model, "get_text_features")):
        raise _unusable(where, f"a {model.config.model_type} model does not encode pictures and texts")
    model.to(place).eval().requires_grad_(False)
    text = model.config.get_text_config()
    return ImageTextEncoder(
        model=model,
        processor=processor,
        source=where,
        device=place,
        longest=int(text.max_position_embeddings),
        pad_to_longest=model.config.model_type.startswith("siglip"),
    )


def _vectors(features: Any) -> torch.Tensor:
    """What an encoder gives, whichever way its architecture wraps it; shape (items, width)."""
    vectors: torch.Tensor = features if isinstance(features, torch.Tensor) else features.pooler_output
    return vectors


def _unusable(source: str, reason: str) -> ModelError:
    return ModelError(
        f"The image-text encoder {source} cannot be used: {reason}.",
        why="Candidates cannot be ranked by how well they go with the picture.",
        todo="Set ILLUME_RELEVANCE_MODEL to a CLIP or SigLIP model in safetensors (folder or hub id), or"
        " unset it: candidates are then ranked by the base model's own likelihood.",
    )
