"""Pairs of an accepted rationale with one that was made to be wrong: for which tasks, and how many. No torch.

Where every rationale of a task fits, nothing tells the model what would not. POVID (arXiv 2402.11411) has it
say something under a spoilt picture; ours is shown the picture of another task, with the same question and
answer. Such a text may fit by chance, so these pairs are never more than a quarter of all.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from illume_plugin.errors import RunError
from illume_plugin.examples import ObjectiveName, PairSource, PreferencePair
from illume_plugin.identity import content_bits, wording
from illume_plugin.training.config import TrainConfig
from illume_plugin.training.spec import write_json
from illume_plugin.types import TrainingRow, TrainingSet


def without_counterpart(training_set: TrainingSet, config: TrainConfig) -> list[TrainingRow]:
    """The rationales that get a wrong counterpart: of each task in no pair, the one that most people accept.

    Tasks are drawn by the seed where there are more than the share of pairs allows; none where DPO is off.
    """
    share = config.objectives.negative_share
    if not share or ObjectiveName.DPO not in config.objectives.weights(training_set):
        return []
    paired = {pair.task_id for pair in training_set.pairs}
    rows: dict[int, TrainingRow] = {}
    for row in sorted(training_set.rows, key=lambda row: (-row.weight, row.rationale or "")):
        if row.rationale is not None and row.task_id not in paired:
            rows.setdefault(row.task_id, row)
    room = math.floor(len(training_set.pairs) * share / (1 - share))
    return sorted(rows.values(), key=lambda row: (content_bits([config.seed, row.task_id]), row.task_id))[
        :room
    ]


def other_pictures(
    rows: Sequence[TrainingRow], training_set: TrainingSet, config: TrainConfig
) -> Mapping[TrainingRow, str]:
    """Another training task's picture for each row, drawn by the seed; rows that have none are left out."""
    pictures = sorted({row.image for row in training_set.rows})
    found = {}
    for row in rows:
        others = [picture for picture in pictures if picture != row.image]
        if others:
            found[row] = random.Random(content_bits([config.seed, row.task_id])).choice(others)
    return found


def counterpart(row: TrainingRow, texts: Iterable[str], training_set: TrainingSet) -> PreferencePair | None:
    """The pair of a row with the first of some texts that nobody has accepted; None where there is none."""
    accepted = {wording(each.rationale or "") for each in training_set.rows if each.task_id == row.task_id}
    wrong = next((text for text in texts if wording(text) not in accepted), None)
    if row.rationale is None or wrong is None:
        return None
    key = row.task_id, row.image, row.question, row.answer
    return PreferencePair(*key, row.rationale, wrong, PairSource.NEGATIVE, row.weight)


def with_pairs(training_set: TrainingSet, pairs: Sequence[PreferencePair]) -> TrainingSet:
    """The training set with these pairs; labels of their rationales are in a pair from then on."""
    paired = {(pair.task_id, wording(pair.chosen)) for pair in pairs}
    labels = (
        replace(label, paired=label.paired or (label.task_id, wording(label.rationale)) in paired)
        for label in training_set.labels
    )
    return replace(training_set, pairs=(*training_set.pairs, *pairs), labels=tuple(labels))


def keep_pairs(path: Path, pairs: Sequence[PreferencePair]) -> None:
    """Write the pairs of a run into its folder, all of them or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"pairs": [asdict(pair) for pair in pairs]})


def kept_pairs(path: Path) -> list[PreferencePair]:
    """The pairs that `keep_pairs` wrote.

    Raises:
        RunError: the file cannot be read.
    """
    try:
        pairs = json.loads(path.read_text(encoding="utf-8"))["pairs"]
        return [PreferencePair(**{**pair, "source": PairSource(pair["source"])}) for pair in pairs]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"The pairs in {path} cannot be read: {error}.",
            why="The run would go on with others than it began with.",
            todo="Remove the run's folder and start it again.",
        ) from error
