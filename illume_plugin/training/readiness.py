"""Whether what people said can be learnt from at all, told before a run starts. No torch here."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from operator import attrgetter

from illume_plugin.dataset import refuse
from illume_plugin.errors import RunError
from illume_plugin.examples import ObjectiveName
from illume_plugin.training.objectives.settings import ObjectiveSettings
from illume_plugin.types import Origin, Preference, TrainingSet, Verdict

#: Annotations that all tick one row alone: fewer may be chance.
ONE_ROW = 20


def refuse_unready(
    training_set: TrainingSet,
    preferences: Iterable[Preference],
    settings: ObjectiveSettings,
    *,
    minimum_accepted: int = 1,
) -> None:
    """Say no to a run that cannot learn what it is for.

    Args:
        preferences: of the project, those of one annotation together.
        minimum_accepted: rationales that fit, where ILLUME's loss is on.

    Raises:
        RunError: too few rationales fit, no objective has a record, all labels are on one side, or every tick
            is on the same row of the screen.
    """
    on = settings.weights(training_set)
    if settings.illume:
        refuse(training_set, minimum_accepted=minimum_accepted)
    if not on:
        raise _nothing(training_set, settings)
    if set(on) == {ObjectiveName.KTO}:
        _refuse_one_side(training_set)
    _refuse_one_row(preferences)


def _nothing(training_set: TrainingSet, settings: ObjectiveSettings) -> RunError:
    held = {
        ObjectiveName.DRESS: len(training_set.feedback),
        ObjectiveName.DPO: len(training_set.pairs),
        ObjectiveName.KTO: len(training_set.labels),
        ObjectiveName.CONTRAST: len(training_set.contrast),
    }
    told = ", ".join(f"{name}: {held[name]}" for name in held if name in settings.possible)
    return RunError(
        f"No objective that is on has anything to learn from (records: {told}).",
        why="A pair needs a rationale that fits and one that does not, on the same task.",
        todo="Judge more tasks in Label Studio, or switch on an objective that has records.",
    )


def _refuse_one_side(training_set: TrainingSet) -> None:
    sides = {label.desirable for label in training_set.labels}
    if len(sides) == 2:
        return
    said = "fit" if True in sides else "do not fit"
    raise RunError(
        f"All {len(training_set.labels)} labelled rationales {said}.",
        why="KTO by itself would only make the model surer of everything, or of nothing.",
        todo="Judge tasks of both kinds, or train with ILLUME's loss beside it (objectives.illume).",
    )


def _refuse_one_row(preferences: Iterable[Preference]) -> None:
    """Candidates are shuffled: ticks that are all on one row alone were not made by reading.

    Of a million preferences those of two annotations are read where nothing is wrong.
    """
    made, row = 0, 0
    for _, held in groupby(preferences, key=attrgetter("annotation_id")):
        rows = {each.position: each.verdict is Verdict.FITS for each in held if _is_of_a_row(each)}
        ticked = [position for position, fits in rows.items() if fits]
        if len(rows) < 2 or not ticked:
            continue
        if len(ticked) > 1 or row not in (0, ticked[0]):
            return
        made, row = made + 1, ticked[0]
    if made < ONE_ROW:
        return
    raise RunError(
        f"All {made} annotations with a tick have ticked row {row} and no other.",
        why="Candidates are shown in a shuffled order, so this says nothing of what they tell.",
        todo="Ask the annotators to read every row; cancel those annotations in Label Studio.",
    )


def _is_of_a_row(preference: Preference) -> bool:
    return preference.origin is Origin.CANDIDATE and preference.position > 0 and preference.turn == 1
