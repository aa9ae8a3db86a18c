"""What a run does after each step and each epoch: tell, save, look whether it still learns."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

from transformers import TrainerCallback

from illume_plugin.errors import RunError
from illume_plugin.examples import ObjectiveName

#: Called after every optimiser step: step, steps in all, loss, seconds left.
Progress = Callable[[int, int, float, float], None]
#: Called just before: `objective/figure` -> value of the step, such as "dpo/loss" and "dpo/margin".
Figured = Callable[[Mapping[str, float]], None]

#: Steps whose median loss is compared with that of the first ones: a tenth of the run, within these bounds;
#: the lower one is also how often. Single steps say little, their loss hangs on which tasks they have. It is
#: judged after three times as many steps at the earliest.
WINDOW = (5, 20)
#: What a loss may grow in any case, nats: one near 0 may be several times as high and still small.
SLACK = 0.5
#: ILLUME's loss without w.
ILLUME_MEANS = ("answer_ce", "rationale_ce")


class StepReport(TrainerCallback):  # type: ignore[misc]
    """Tells the progress after every step."""

    def __init__(self, progress: Progress, figures: Figured = lambda _: None) -> None:
        self._progress = progress
        self._figures = figures
        self._started = 0.0
        self._first = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Start the clock; a run that goes on has some steps behind it."""
        self._started, self._first = time.monotonic(), int(state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any], **_: Any) -> None:  # noqa: ARG002
        """Pass on the loss of the step that has just been made."""
        if "loss" not in logs:
            return
        step, steps = int(state.global_step), int(state.max_steps)
        per_step = (time.monotonic() - self._started) / max(step - self._first, 1)
        self._figures({name: value for name, value in logs.items() if "/" in name})
        self._progress(step, steps, float(logs["loss"]), per_step * (steps - step))


class AtEpochEnd(TrainerCallback):  # type: ignore[misc]
    """Does something after each epoch, before its checkpoint is written."""

    def __init__(self, what: Callable[[], None]) -> None:
        self._what = what

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Do it."""
        self._what()


class SaveOften(TrainerCallback):  # type: ignore[misc]
    """Asks for a checkpoint after each epoch and after every so many steps."""

    def __init__(self, every: int) -> None:
        self._every = every

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Ask every so many steps; at an epoch's end that is for `on_epoch_end`."""
        if state.global_step % self._every == 0 and state.epoch % 1:
            control.should_save = True

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Ask at each epoch's end, and at the end of the run."""
        control.should_save = True


class DivergenceGuard(TrainerCallback):  # type: ignore[misc]
    """Ends a run whose loss grows instead of falling.

    Each objective is compared with itself, on the steps that had records of it, and ILLUME's two means one by
    one: where one task in thirty is judged most steps have no rationale, and their sum jumps between nothing
    and w times a rationale's loss.

    Args:
        limit: how many times the first steps' median loss the last steps' may be; 0: whatever.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit

    def on_log(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Compare the first steps with the last, every few steps.

        Raises:
            RunError: a loss diverges.
        """
        told = state.log_history
        if not self._limit or "loss" not in told[-1] or state.global_step % WINDOW[0]:
            return
        window = min(max(state.max_steps // 10, WINDOW[0]), WINDOW[1])
        for name in filter(_is_loss, told[-1]):
            # exactly 0: the step had no record of it
            losses = [each[name] for each in told if each.get(name)]
            if len(losses) >= 3 * window:
                self._compare(
                    name, median(losses[:window]), median(losses[-window:]), window, state.global_step
                )

    def _compare(self, name: str, first: float, last: float, window: int, step: int) -> None:
        if last <= self._limit * first + SLACK:
            return
        raise RunError(
            f"The loss diverges: {name} is {first:.3g} in its first {window} steps, {last:.3g} in its last"
            f" {window} at step {step} (more than {self._limit:g} times as much).",
            why="The adapter would be worse than the one before; it is thrown away.",
            todo="Train again with a smaller learning_rate; the setting divergence is the limit.",
        )


def _is_loss(name: str) -> bool:
    """Whether a figure of a step is a loss, without w where it is ILLUME's."""
    objective, _, figure = name.partition("/")
    return figure in (ILLUME_MEANS if objective == ObjectiveName.ILLUME else ("loss",))
