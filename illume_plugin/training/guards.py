"""What stops a step: numbers that are none, with the records that give them, and memory that is full."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, Protocol, TypeVar

import torch

from illume_plugin.errors import RunError
from illume_plugin.examples import FeedbackExample
from illume_plugin.training.logps import row_logps
from illume_plugin.training.packing import Packing
from illume_plugin.training.traits import Traits
from illume_plugin.types import TrainingRow

T = TypeVar("T")
#: What a step's rows are made of.
Record = TrainingRow | FeedbackExample

#: Records that an error names.
NAMED = 5
#: How long a rationale is shown, characters.
SHOWN = 60


def not_finite_error(
    what: str,
    where: str,
    model: Any,
    packing: Packing,
    numbers: Sequence[int],
    traits: Traits,
) -> RunError:
    """The error of a step whose loss or gradients are no numbers; it names the records that do it.

    Args:
        what: such as "The loss became nan".
        where: such as "at step 3 of 40".
        numbers: rows of the step, in the run.
    """
    head = f"{what} {where}"
    found = [list(_guilty(model, packing, number, traits)) for number in numbers]
    if all(found) and len(found) > 1:
        return RunError(
            f"{head} for every record: the adapter's weights were broken before.",
            why="No record is at fault; the adapter is thrown away.",
            todo="Train again with a smaller learning_rate.",
        )
    if not any(found):
        return RunError(
            f"{head}, in {_named(_rows(packing, numbers))} together; each alone gives numbers.",
            why="The adapter would be broken from here on; it is thrown away.",
            todo="Train again with a smaller learning_rate, or with precision fp32.",
        )
    return RunError(
        f"{head} because of {_named(chain(*found))}.",
        why="What the model makes of such a record is no number, and would break the adapter.",
        todo="Look at the picture and the text; skip the task in Label Studio, or train with precision fp32.",
    )


class Sized(Protocol):
    """Something that computes so many rows together, and may be told to take fewer."""

    size: int


def until_it_fits(attempt: Callable[[], T], sized: Sized, notice: Callable[[str], None]) -> T:
    """What `attempt` gives; where memory runs out, it is made again with half the rows at a time.

    Raises:
        RunError: memory is too small for one row.
    """
    while True:
        try:
            return attempt()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        free_memory()
        sized.size = smaller(sized.size, "before the first step", notice)


def smaller(size: int, when: str, notice: Callable[[str], None]) -> int:
    """Half as many rows at a time, after memory ran out with `size` of them.

    Raises:
        RunError: it was one row.
    """
    if size == 1:
        raise RunError(
            "Memory ran out with 1 row at a time.",
            why="It cannot be less.",
            todo="Train with gradient_checkpointing, in bfloat16 (dtype), or with smaller pictures.",
        )
    notice(f"Memory ran out {when} with {size} rows at a time; from here on it is {size // 2}.")
    return size // 2


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on whichever device."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def free_memory() -> None:
    """Give back what an interrupted step held."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _guilty(model: Any, packing: Packing, number: int, traits: Traits) -> Iterator[Record]:
    """The rows whose log-probabilities are no numbers; all of them if the gradients alone are none."""
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    device = weights[0].device
    for batch in packing.micro_batches([number]):
        pictures = packing.pictures(batch, device)
        values = row_logps(model, batch.to(device), traits, pictures=pictures).values
        fine = torch.isfinite(values).all(dim=1).tolist()
        if all(fine):
            gradients = torch.autograd.grad(values.sum(), weights, allow_unused=True)
            broken = not all(bool(torch.isfinite(each).all()) for each in gradients if each is not None)
            fine = [not broken] * len(fine)
        yield from (row for row, good in zip(batch.rows, fine, strict=True) if not good)


def _rows(packing: Packing, numbers: Sequence[int]) -> Iterator[Record]:
    for batch in packing.micro_batches(numbers):
        yield from batch.rows


def _named(rows: Iterable[Record]) -> str:
    told = list(dict.fromkeys(f"task {row.task_id} ({_shown(row.rationale)})" for row in rows))
    more = f" and {len(told) - NAMED} more" if len(told) > NAMED else ""
    return ", ".join(told[:NAMED]) + more


def _shown(text: str | None) -> str:
    if text is None:
        return "answer only"
    return repr(text if len(text) <= SHOWN else text[: SHOWN - 1] + "…")
