"""The ways of computing a run's rows, and which of them this run takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from illume_plugin.base_model import BaseModel
from illume_plugin.training.collator import RowCollator
from illume_plugin.training.config import TrainConfig
from illume_plugin.training.equality import Choice, choose
from illume_plugin.training.features import vision_is_frozen
from illume_plugin.training.heads import Heads
from illume_plugin.training.objective import Objective
from illume_plugin.training.packing import Packing, PlainRows, SharedPrefix
from illume_plugin.training.picture_store import PictureStore
from illume_plugin.training.rows import EncodedRow, encode_row
from illume_plugin.training.traits import Traits
from illume_plugin.types import TrainingRow

#: Rows that the ways are compared on: so many of each of so many families that share a picture.
ROWS_COMPARED, FAMILIES_COMPARED = 4, 2


class Ways:
    """The ways of computing the rows of one run.

    Args:
        model: with the adapter that is about to be trained.
        rows: all rows of the run.
        images: picture of a row -> local file.
        scratch: folder for pictures that do not fit into memory.
    """

    def __init__(
        self,
        base: BaseModel,
        model: Any,
        rows: Sequence[TrainingRow],
        images: Mapping[str, Path],
        config: TrainConfig,
        scratch: Path,
    ) -> None:
        traits = Traits.of(model)
        self._base = base
        self._model = model
        self._images = images
        self._size = config.micro_batch_size
        self._scratch = scratch
        two_way = traits.two_way_prompt
        self.rows = [encode_row(base.prompts, row, two_way_prompt=two_way) for row in rows]
        self.plain = PlainRows(self.rows, RowCollator(base.prompts, images, two_way), self._size)
        self._takes_features = traits.takes_features and vision_is_frozen(model)

    def choose(self, rows: Sequence[int], objectives: Sequence[Objective]) -> Choice:
        """The fastest way that equals plain rows on some of these rows.

        Raises:
            ImageError: a picture cannot be read.
            ModelError: the processor's tokens are not the tokenizer's.
        """
        with_last = any(objective.wants_hidden for objective in objectives)
        ways = self.shared(with_last=with_last)
        return choose(self._model, ways, self.plain, compared(self.rows, rows), objectives)

    def shared(self, *, with_last: bool = False) -> Iterator[Packing]:
        """The ways that share pictures, the fastest first."""
        for features in (True, False) if self._takes_features else (False,):
            pictures = "features kept" if features else "read each time"
            store = PictureStore(self._scratch / ("features" if features else "pixels"))
            yield SharedPrefix(
                self.rows,
                Heads(self._model, self._base.prompts, self._images, store, features=features),
                self.plain,
                size=self._size,
                pad_id=self._base.pad_id,
                name=f"rows that share a picture as one sequence, pictures {pictures}",
                with_last=with_last,
            )


def compared(encoded: Sequence[EncodedRow], rows: Sequence[int]) -> list[int]:
    """Some of a step's rows: those of the largest families, so that branches and padding are among them."""
    families: dict[Any, list[int]] = {}
    for index in rows:
        families.setdefault(encoded[index].key, []).append(index)
    largest = sorted(families.values(), key=len, reverse=True)[:FAMILIES_COMPARED]
    return [index for family in largest for index in family[:ROWS_COMPARED]]
