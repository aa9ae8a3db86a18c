"""Whether every tick has arrived, once: what was meant, what Label Studio holds, what the store holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from backend.simulate.submission import ticked
from illume_plugin.annotators import Annotator
from illume_plugin.embedded import WorldTask
from illume_plugin.errors import LabelStudioError
from illume_plugin.preferences import preferences_of
from illume_plugin.preferences.observations import read_annotation
from illume_plugin.types import Annotation, Json, Preference, Verdict

#: Tasks named in an error; more are counted.
NAMED = 10


@dataclass(frozen=True, slots=True)
class Tick:
    """A verdict on one row of one task, by whichever annotation.

    Attributes:
        version: adapter that the row came from.
    """

    task_id: int
    position: int
    text: str
    fits: bool
    version: str | None


@dataclass(frozen=True, slots=True)
class Delivery:
    """How the ticks of one iteration travelled.

    Attributes:
        annotations: in Label Studio, as many as were submitted.
        ticks: verdicts that the annotators meant to give, one per row and annotation.
        arrived: verdicts in the store.
        lost: meant, and not in the store.
        doubled: in the store, and not meant, or once too often.
        sent_again: annotations of an interrupted process whose event had not arrived, so that the process
            after it updated them; as far as the process that finished the iteration knows.
    """

    annotations: int
    ticks: int
    arrived: int
    lost: int = 0
    doubled: int = 0
    sent_again: int = 0

    def to_json(self) -> dict[str, Json]:
        """As JSON values."""
        return asdict(self)


def meant_by(
    annotators: Sequence[Annotator], task: WorldTask, task_id: int, prediction: Mapping[str, Json]
) -> list[Tick]:
    """The verdicts that all annotators together give on a prediction that they see."""
    (shown,) = prediction["result"]
    found: list[Tick] = []
    for annotator in annotators:
        result = tuple(ticked(prediction, annotator.ticks(task, shown["value"]["text"])))
        annotation = Annotation(0, 0, task_id, "", False, None, None, result)
        found += ticks_of(preferences_of(annotation))
    return found


def held_by(project_id: int, annotation: Mapping[str, Json]) -> list[Tick]:
    """The verdicts in an annotation as Label Studio's API gives it."""
    return ticks_of(preferences_of(read_annotation(project_id, annotation)))


def ticks_of(preferences: Iterable[Preference]) -> list[Tick]:
    """Preferences as verdicts that can be compared."""
    return [
        Tick(one.task_id, one.position, one.text, one.verdict is Verdict.FITS, one.version)
        for one in preferences
    ]


def compare(
    meant: Iterable[Tick], held: Iterable[Tick], arrived: Iterable[Tick], *, annotations: int, sent_again: int
) -> Delivery:
    """How the ticks travelled.

    Args:
        meant: by the annotators, for what they saw.
        held: by Label Studio.
        arrived: in the store.
        annotations: in Label Studio.

    Raises:
        LabelStudioError: ticks are lost or doubled; the tasks are named, and on which way it happened.
    """
    a, b, c = Counter(meant), Counter(held), Counter(arrived)
    problems = [
        *_difference("were submitted and are not in Label Studio", a - b),
        *_difference("are in Label Studio and nobody submitted them, or twice", b - a),
        *_difference("are in Label Studio and did not arrive here", b - c),
        *_difference("arrived here and are not in Label Studio, or twice", c - b),
    ]
    delivery = Delivery(
        annotations, a.total(), c.total(), (a - c).total(), (c - a).total(), sent_again=sent_again
    )
    if problems:
        raise LabelStudioError(
            f"Of {delivery.ticks} ticks {delivery.lost} are lost and {delivery.doubled} doubled or changed: "
            f"{'; '.join(problems)}.",
            why="People's ticks would fare the same.",
            todo="Look for errors of webhooks in Label Studio's log and see illume doctor. The same command "
            "compares again; ticks that did not arrive are then sent once more.",
        )
    return delivery


def _difference(what: str, ticks: Counter[Tick]) -> list[str]:
    if not ticks:
        return []
    tasks = sorted({tick.task_id for tick in ticks})
    named = ", ".join(map(str, tasks[:NAMED])) + (f" and {len(tasks) - NAMED} more" if tasks[NAMED:] else "")
    return [f"{ticks.total()} {what} (task{'s' if len(tasks) > 1 else ''} {named})"]
