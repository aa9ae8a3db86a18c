"""Prompts with their pictures, read by the processor once in a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from illume_plugin.base_model import Prompts, encode_rows, open_image
from illume_plugin.training.features import as_encoder_outputs, features_of, joined_pixels
from illume_plugin.training.picture_store import PictureStore, Tensors
from illume_plugin.training.rows import EncodedRow, pieces
from illume_plugin.training.traits import Traits, head_positions
from illume_plugin.training.trie import Branch, Head, Ints

#: What a processor gives for each token; all else is of the picture.
_PER_TOKEN = (
    "input_ids",
    "attention_mask",
    "token_type_ids",
    "mm_token_type_ids",
    "answer_mask",
    "rationale_mask",
)


class Heads:
    """The prompts of a run, and what the model is given of their pictures.

    A prompt about a picture is encoded when it is first needed, in a row as `encode_rows` does it, and never
    again; so is the picture itself.

    Args:
        images: picture of a row -> local file.
        features: keep what the vision tower makes of a picture in place of its pixels. Right only while
            the tower is frozen.
    """

    def __init__(
        self,
        model: Any,
        prompts: Prompts,
        images: Mapping[str, Path],
        store: PictureStore,
        *,
        features: bool,
    ) -> None:
        self.traits = Traits.of(model)
        self._model = model
        self._prompts = prompts
        self._images = images
        self._store = store
        self._features = features
        self._known: dict[tuple[str, str, tuple[int, ...]], Head] = {}

    def read(self, rows: Iterable[EncodedRow]) -> None:
        """Read the prompts of these rows, where that has not been done.

        Raises:
            ImageError: a picture cannot be read.
            ModelError: the processor's tokens are not the tokenizer's.
            RunError: there is no room for the pictures.
        """
        pixels: dict[str, Tensors] = {}
        for row in rows:
            if _key(row) not in self._known:
                self._known[_key(row)], seen = self._head(row)
                if row.row.image not in self._store:
                    pixels[row.row.image] = seen
        kept = features_of(self._model, pixels) if pixels and self._features else pixels.items()
        for image, tensors in kept:
            self._store.put(image, tensors)

    def branch(self, row: EncodedRow) -> Branch:
        """A row with its prompt as the model reads it, after `read`."""
        return Branch(self._known[_key(row)], row.tail)

    def picture_inputs(self, images: Sequence[str], device: torch.device) -> dict[str, Any]:
        """Arguments of the forward pass for sequences about these pictures, whose prompts were read."""
        each = [self._store.get(image) for image in images]
        if self._features:
            return {"mm_encoder_outputs": as_encoder_outputs(each, device)}
        return {name: tensor.to(device) for name, tensor in joined_pixels(each).items()}

    def _head(self, row: EncodedRow) -> tuple[Head, Tensors]:
        """A row's prompt, and what the processor gives for its picture."""
        picture = open_image(self._images[row.row.image])
        batch = encode_rows(self._prompts, [pieces(self._prompts, row.row)], [picture])
        length = batch["input_ids"].shape[1] - len(row.tail)
        pixels = {name: value for name, value in batch.items() if name not in _PER_TOKEN}
        prompt = {**pixels, **{name: batch[name][:, :length] for name in _PER_TOKEN if name in batch}}
        positions, behind = head_positions(self._model, prompt)
        tokens = prompt["input_ids"][0].numpy()
        return Head(tokens, positions.numpy(), behind, self._blocks(prompt, length)), pixels

    def _blocks(self, prompt: Mapping[str, torch.Tensor], length: int) -> Ints:
        """Which tokens of a prompt see each other in both directions; see `Head`."""
        if self.traits.two_way_prompt:
            return np.ones(length, dtype=np.int64)
        if "token_type_ids" not in prompt:
            return np.zeros(length, dtype=np.int64)
        picture = prompt["token_type_ids"][0].numpy() == 1  # Gemma 3: each picture's tokens
        starts = picture & ~np.concatenate([[False], picture[:-1]])
        blocks: Ints = np.where(picture, starts.cumsum(), 0)
        return blocks


def _key(row: EncodedRow) -> tuple[str, str, tuple[int, ...]]:
    return row.row.image, row.prompt, row.head
