"""The ways of computing a run's rows, and which of them this run takes."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
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
from illume_plugin.training.rows import encode_row
from illume_plugin.training.steps import StepSampler
from illume_plugin.training.terms import RunTerms, Term
from illume_plugin.training.traits import Traits

#: Terms of each objective that the ways are compared on: so many of so many families that share a picture.
TERMS_COMPARED, FAMILIES_COMPARED = 4, 2


class Ways:
    """The ways of computing the rows of one run.

    Args:
        model: with the adapter that is about to be trained.
        run: texts and terms of the run.
        images: picture of a row -> local file.
        scratch: folder for pictures that do not fit into memory.
    """

    def __init__(
        self,
        base: BaseModel,
        model: Any,
        run: RunTerms,
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
        self.rows = [encode_row(base.prompts, text, two_way_prompt=two_way) for text in run.texts]
        self.terms = run.terms
        collator = RowCollator(base.prompts, images, two_way)
        self.plain = PlainRows(self.rows, self.terms, collator, self._size)
        self.sampler = StepSampler(
            [self.rows[term.rows[0]].key for term in run.terms],
            batch_size=config.batch_size,
            seed=config.seed,
            rows=run.new_rows(),
            drawn=run.in_epoch,
        )
        self._takes_features = traits.takes_features and vision_is_frozen(model)

    @property
    def size(self) -> int:
        """Rows that may be computed together, as `Packing.size`."""
        return self._size

    @size.setter
    def size(self, size: int) -> None:
        self._size = self.plain.size = size

    def choose(self, objectives: Sequence[Objective]) -> Choice:
        """The fastest way that equals plain rows on some terms of each objective.

        Raises:
            ImageError: a picture cannot be read.
            ModelError: the processor's tokens are not the tokenizer's.
        """
        with_last = any(objective.wants_hidden for objective in objectives)
        ways = self.shared(with_last=with_last)
        keys = [self.rows[term.rows[0]].key for term in self.terms]
        return choose(self._model, ways, self.plain, compared(self.terms, keys), objectives)

    def shared(self, *, with_last: bool = False) -> Iterator[Packing]:
        """The ways that share pictures, the fastest first."""
        for features in (True, False) if self._takes_features else (False,):
            pictures = "features kept" if features else "read each time"
            store = PictureStore(self._scratch / ("features" if features else "pixels"))
            yield SharedPrefix(
                self.rows,
                self.terms,
                Heads(self._model, self._base.prompts, self._images, store, features=features),
                self.plain,
                size=self._size,
                pad_id=self._base.pad_id,
                name=f"rows that share a picture as one sequence, pictures {pictures}",
                with_last=with_last,
            )


def compared(terms: Sequence[Term], keys: Sequence[Hashable]) -> list[int]:
    """Some terms of each objective: of its largest families, so that branches and padding are among them.

    Args:
        keys: what each term shares with others of its family.
    """
    families: dict[Any, list[int]] = {}
    for number, (term, key) in enumerate(zip(terms, keys, strict=True)):
        families.setdefault((term.objective, key), []).append(number)
    chosen: list[int] = []
    for objective in dict.fromkeys(term.objective for term in terms):
        mine = [family for (name, _), family in families.items() if name is objective]
        largest = sorted(mine, key=len, reverse=True)[:FAMILIES_COMPARED]
        chosen += [number for family in largest for number in family[:TERMS_COMPARED]]
    return chosen
