"""DRESS's feedback (arXiv 2311.10081): what was said of a rationale, as the condition it is learnt under.

The condition is plain text before the question of its turn, no new tokens (our template):

    [feedback | helpful 4/4 | honest 3/4 | harmless 4/4 | critique: does not mention the puddles]

A model trained so tells a better rationale when asked under the best condition.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, replace

from illume_plugin.errors import SettingsError
from illume_plugin.examples import MAX_STARS, Condition, FeedbackExample
from illume_plugin.identity import content_bits, wording
from illume_plugin.types import Json, Preference, Task, Verdict
from illume_plugin.votes import by_task, stars_given

#: What stands for the stars of a rationale that was only ticked, or left unticked. It says nothing of
#: honesty or harm, so those stay open.
FITS = Condition(helpful=MAX_STARS)
UNFIT = Condition(helpful=1)

#: Inside the brackets these would end the condition or a part of it.
_MARKS = str.maketrans({"[": "(", "]": ")", "|": "/"})


def condition_text(condition: Condition) -> str:
    """The condition in words, on one line; "" where nothing was said."""
    rated = [("helpful", condition.helpful), ("honest", condition.honest), ("harmless", condition.harmless)]
    parts = [f"{name} {stars}/{MAX_STARS}" for name, stars in rated if stars is not None]
    if critique := " ".join(condition.critique.translate(_MARKS).split()):
        parts.append(f"critique: {critique}")
    return f"[{' | '.join(['feedback', *parts])}]" if parts else ""


def build_feedback(
    tasks: Iterable[Task], preferences: Iterable[Preference], *, weigh_agreement: bool = True
) -> tuple[FeedbackExample, ...]:
    """Every judged rationale with what was said of it, whatever order the inputs come in.

    Rationales that do not fit are among them, each under its own condition: that is how DRESS differs from
    ILLUME. Where nobody gave stars they follow from the verdict.

    Args:
        tasks: those that may train; what was said of others is left out.
        weigh_agreement: yes: what several annotations say of one rationale shares one weight of 1.
    """
    by_id = {task.task_id: task for task in tasks}
    said = by_task(preferences)
    return tuple(
        each
        for task_id in sorted(by_id.keys() & said.keys())
        for each in _of_task(by_id[task_id], said[task_id], weigh_agreement)
    )


def _of_task(task: Task, said: Iterable[Preference], weigh_agreement: bool) -> list[FeedbackExample]:
    counts = Counter(_example(task, each) for each in set(said))
    judged: Counter[str] = Counter()
    for each, count in counts.items():
        judged[wording(each.rationale)] += count
    shares = {each: count / judged[wording(each.rationale)] for each, count in counts.items()}
    shared = weigh_agreement and any(share < 1 for share in shares.values())  # rarely
    weighed = [replace(each, weight=share) for each, share in shares.items()] if shared else counts
    return sorted(weighed, key=_by_text)


def with_dropout(
    example: FeedbackExample, *, seed: int, epoch: int = 0, critique: float = 0.2, whole: float = 0.1
) -> FeedbackExample:
    """The example with less said in some epochs, so that the model also works when little or nothing is said.

    The draw depends on the arguments alone. A rationale that does not fit never loses its whole condition:
    without one the model is asked for rationales that fit, and must not learn others (ours).

    Args:
        critique: probability that the critique goes, in [0, 1].
        whole: probability that the whole condition goes, in [0, 1].

    Raises:
        SettingsError: a probability is none.
    """
    if not (0 <= critique <= 1 and 0 <= whole <= 1):
        raise SettingsError(f"Feedback is dropped with a probability from 0 to 1, not {critique}, {whole}.")
    key: list[Json] = [seed, epoch, asdict(example)]
    if example.fits and _drawn([*key, "whole"]) < whole:
        return replace(example, condition=Condition())
    if _drawn([*key, "critique"]) < critique:
        return replace(example, condition=replace(example.condition, critique=""))
    return example


def _drawn(key: list[Json]) -> float:
    return content_bits(key) / 2**64


def _example(task: Task, preference: Preference) -> FeedbackExample:
    fits = preference.verdict is Verdict.FITS
    implied = not stars_given(preference)
    condition = Condition(preference.helpful, preference.honest, preference.harmless)
    if implied:
        condition = FITS if fits else UNFIT
    return FeedbackExample(
        task.task_id,
        task.image,
        task.question,
        task.answer,
        preference.text,
        fits,
        replace(condition, critique=preference.critique) if preference.critique else condition,
        preference.before,
        preference.refinement,
        implied,
    )


def _by_text(example: FeedbackExample) -> tuple[str, bool, str, str, str, bool, str]:
    """No two examples of a task have the same."""
    return (
        example.rationale,
        example.fits,
        condition_text(example.condition),
        example.before,
        example.refinement,
        example.implied,
        example.condition.critique,
    )
