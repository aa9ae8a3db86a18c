"""What a run learns from: its texts, each of them once, and the terms of the objectives over them.

A term is one summand of an objective, made of one record: a row of ILLUME's, the two sides of a pair, a
labelled rationale, a rationale under what was said of it, or an anchor with what belongs near it and far from
it. A text that several terms need is one text, computed once for all that come in the same micro-batch. No
torch here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest

from illume_plugin.examples import (
    Condition,
    ContrastExample,
    Example,
    FeedbackExample,
    LabelledRationale,
    ObjectiveName,
    PreferencePair,
)
from illume_plugin.feedback import with_dropout
from illume_plugin.training.config import TrainConfig
from illume_plugin.training.content_weights import weighed_by_content
from illume_plugin.training.objectives.pairing import mismatched
from illume_plugin.types import TrainingRow, TrainingSet

#: What is read by the model: a task with or without a rationale, or a rationale behind what was said of it.
Text = TrainingRow | FeedbackExample


@dataclass(frozen=True, slots=True)
class Term:
    """One summand of an objective.

    Attributes:
        rows: numbers of the texts that must be computed together. ILLUME, KTO, DRESS: one. DPO: chosen,
            rejected. Contrast: anchor, positive, then the negatives.
        weight: of the record, among those of its objective.
        desirable: KTO: whether the rationale fits.
        mismatch: KTO: number of the text that has another task's rationale; None where there is none.
    """

    objective: ObjectiveName
    rows: tuple[int, ...]
    weight: float = 1.0
    desirable: bool = True
    mismatch: int | None = None


@dataclass
class RunTerms:
    """The texts and terms of one run.

    Attributes:
        texts: every text once, in the order in which terms first need them.
        terms: of all objectives. Those of feedback are here in every form that dropout may give them.
    """

    config: TrainConfig
    texts: list[Text] = field(default_factory=list)
    terms: list[Term] = field(default_factory=list)
    _numbers: dict[Text, int] = field(default_factory=dict)
    _always: list[int] = field(default_factory=list)
    _feedback: list[tuple[FeedbackExample, Mapping[Condition, int]]] = field(default_factory=list)

    def text(self, text: Text) -> int:
        """The number of a text."""
        known = self._numbers.setdefault(_wording(text), len(self.texts))
        if known == len(self.texts):
            self.texts.append(text)
        return known

    def add(self, term: Term) -> None:
        """Take in a term of every epoch."""
        self._always.append(len(self.terms))
        self.terms.append(term)

    def add_feedback(self, example: FeedbackExample) -> None:
        """Take in an example in all the forms that feedback dropout may give it."""
        forms = {}
        for form in _forms(example):
            forms[form.condition] = len(self.terms)
            self.terms.append(Term(ObjectiveName.DRESS, (self.text(form),), example.weight))
        self._feedback.append((example, forms))

    def in_epoch(self, epoch: int) -> list[int]:
        """Numbers of the terms of one epoch: all, but of each feedback example the form that was drawn."""
        settings = self.config.objectives
        drawn = [
            forms[_dropped(example, self.config.seed, epoch, settings.drop_critique, settings.drop_condition)]
            for example, forms in self._feedback
        ]
        return [*self._always, *drawn]

    def new_rows(self) -> list[int]:
        """For each term, the texts that it is the first to need; in an epoch they add up to all its texts."""
        seen: set[int] = set()
        sizes = []
        for term in self.terms:
            forms = term.objective is ObjectiveName.DRESS  # one form of each is in an epoch
            sizes.append(1 if forms else len(set(term.rows) - seen))
            seen.update(() if forms else term.rows)
        return sizes


def run_terms(training_set: TrainingSet, config: TrainConfig) -> RunTerms:
    """The texts and terms of the objectives that are on for this training set."""
    run = RunTerms(config)
    on = config.objectives.weights(training_set)
    if ObjectiveName.ILLUME in on:
        rows = training_set.rows
        weighed = weighed_by_content(rows) if config.objectives.weigh_content else rows
        for row in balanced(weighed, config.task_balance):
            run.add(Term(ObjectiveName.ILLUME, (run.text(row),), row.weight))
    if ObjectiveName.DPO in on:
        for pair in training_set.pairs:
            run.add(_pair(run, pair))
    if ObjectiveName.KTO in on:
        for term in _labels(run, config.objectives.labels(training_set)):
            run.add(term)
    if ObjectiveName.DRESS in on:
        for example in training_set.feedback:
            run.add_feedback(example)
    if ObjectiveName.CONTRAST in on:
        for contrast in training_set.contrast:
            for term in _contrast(run, contrast):
                run.add(term)
    return run


def terms_of_rows(rows: Sequence[TrainingRow], config: TrainConfig) -> RunTerms:
    """The texts and terms of a run that has ILLUME's rows alone."""
    return run_terms(TrainingSet(0, tuple(rows), held_out=(), content_hash=""), config)


def balanced(rows: Sequence[TrainingRow], balance: float) -> list[TrainingRow]:
    """The rows, with a rationale's weight divided by (number of its task's rationales) ** balance."""
    of_task = Counter(row.task_id for row in rows if row.rationale is not None)
    return [
        row if row.rationale is None else replace(row, weight=row.weight * of_task[row.task_id] ** -balance)
        for row in rows
    ]


def _pair(run: RunTerms, pair: PreferencePair) -> Term:
    sides = tuple(run.text(_told(pair, text)) for text in (pair.chosen, pair.rejected))
    return Term(ObjectiveName.DPO, sides, pair.weight)


def _labels(run: RunTerms, labels: Sequence[LabelledRationale]) -> Iterator[Term]:
    for label, other in zip_longest(labels, mismatched(labels)):  # of all labels, or of none
        row = run.text(_told(label, label.rationale))
        mismatch = None if other is None else run.text(_told(other, other.rationale))
        yield Term(ObjectiveName.KTO, (row,), label.weight, label.desirable, mismatch)


def _contrast(run: RunTerms, example: ContrastExample) -> Iterator[Term]:
    """One term for each positive; together they have the example's weight."""
    anchor = run.text(_told(example, example.anchor))
    negatives = [run.text(_told(example, text)) for text in example.negatives]
    for positive in example.positives:
        rows = (anchor, run.text(_told(example, positive)), *negatives)
        yield Term(ObjectiveName.CONTRAST, rows, example.weight / len(example.positives))


def _told(example: Example, rationale: str) -> TrainingRow:
    return TrainingRow(example.task_id, example.image, example.question, example.answer, rationale)


def _forms(example: FeedbackExample) -> list[FeedbackExample]:
    """All that dropout may make of an example, itself the first."""
    silent = replace(example, condition=replace(example.condition, critique=""))
    bare = [replace(example, condition=Condition())] if example.fits else []
    return list(dict.fromkeys([example, silent, *bare]))


def _dropped(example: FeedbackExample, seed: int, epoch: int, critique: float, whole: float) -> Condition:
    return with_dropout(example, seed=seed, epoch=epoch, critique=critique, whole=whole).condition


def _wording(text: Text) -> Text:
    """What is the same for texts that read the same, whatever is thought of them."""
    if isinstance(text, TrainingRow):
        return replace(text, task_id=0, weight=1.0, i2c=None)
    return replace(text, task_id=0, weight=1.0, fits=True, implied=False)
