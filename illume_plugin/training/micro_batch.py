"""One forward pass: what goes into the model, and where the rows' own tokens are in what comes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import torch

from illume_plugin.examples import ObjectiveName
from illume_plugin.training.sight import Sight
from illume_plugin.training.terms import Term, Text


@dataclass(frozen=True, slots=True)
class OwnTokens:
    """The tokens that a loss may count, those of answers and rationales: row by row, first to last.

    Every field has one entry for each of them.

    Attributes:
        row: which row it belongs to, ascending.
        column: its number among the row's own tokens.
        sequence: sequence of the batch that it stands in.
        predictor: place in the sequence of the token before it, which predicts it.
        place: its own place; -1 where a row's last token was left out of the sequence.
        token: token id.
        answer: bool, whether it is the answer's; otherwise it is the rationale's.
    """

    row: torch.Tensor
    column: torch.Tensor
    sequence: torch.Tensor
    predictor: torch.Tensor
    place: torch.Tensor
    token: torch.Tensor
    answer: torch.Tensor

    @property
    def width(self) -> int:
        """Most own tokens of one row."""
        return int(self.column.max()) + 1 if len(self.column) else 0

    def to(self, device: torch.device) -> OwnTokens:
        """The same on `device`."""
        return OwnTokens(**{each.name: getattr(self, each.name).to(device) for each in fields(self)})


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Rows that are computed together, in whichever way.

    Attributes:
        numbers: of the rows, in the run.
        rows: their texts.
        inputs: arguments of the forward pass; `input_ids` has shape (sequences, tokens).
        own: where the rows' own tokens are.
        sight: who sees whom; None where the model's own masks are right.
        pictures: picture of each sequence, where `inputs` has nothing of it.
        terms: those that are computed here; every row that they need is among `numbers`.
    """

    numbers: tuple[int, ...]
    rows: tuple[Text, ...]
    inputs: Mapping[str, torch.Tensor]
    own: OwnTokens
    sight: Sight | None = None
    pictures: tuple[str, ...] = ()
    terms: tuple[Term, ...] = ()

    @property
    def tokens(self) -> int:
        """Tokens that the model reads, padding included."""
        return int(self.inputs["input_ids"].numel())

    @property
    def answer_mask(self) -> torch.Tensor:
        """Which of each row's own tokens are the answer's: bool, shape (rows, most own tokens)."""
        return self.by_row(self.own.answer)

    @property
    def rationale_mask(self) -> torch.Tensor:
        """Which of each row's own tokens are the rationale's; shape as `answer_mask`."""
        return self.by_row(~self.own.answer)

    def of(self, objective: ObjectiveName) -> list[Term]:
        """The terms of one objective."""
        return [term for term in self.terms if term.objective is objective]

    def places(self, numbers: Sequence[int]) -> torch.Tensor:
        """Where rows, given by their numbers in the run, are in this micro-batch; shape (numbers,)."""
        place = {number: index for index, number in enumerate(self.numbers)}
        found = [place[number] for number in numbers]
        return torch.tensor(found, dtype=torch.long, device=self.own.row.device)

    def by_row(self, values: torch.Tensor) -> torch.Tensor:
        """Values of the own tokens, shape (own tokens, ...), as (rows, most own tokens, ...), 0 behind."""
        empty = values.new_zeros(len(self.rows), self.own.width, *values.shape[1:])
        return empty.index_put((self.own.row, self.own.column), values)

    def to(self, device: torch.device) -> MicroBatch:
        """The same on `device`."""
        return replace(
            self,
            inputs={name: tensor.to(device) for name, tensor in self.inputs.items()},
            own=self.own.to(device),
            sight=None if self.sight is None else self.sight.to(device),
        )


def row_columns(rows: torch.Tensor) -> torch.Tensor:
    """Number of each own token within its row, from the row of each, ascending."""
    return torch.arange(len(rows)) - torch.searchsorted(rows, rows)
