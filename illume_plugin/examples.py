"""What the objectives of a run learn from, one record for each thing that somebody said. No behaviour."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

#: Stars on one dimension of feedback run from 1 to this.
MAX_STARS = 4


class ObjectiveName(StrEnum):
    """The terms of a run's loss."""

    ILLUME = "illume"  # answers, and the rationales that fit (arXiv 2208.08241)
    DRESS = "dress"  # every judged rationale under what was said of it (arXiv 2311.10081)
    DPO = "dpo"  # one rationale over another (arXiv 2305.18290; in CSR, arXiv 2405.14622)
    KTO = "kto"  # single rationales that fit or do not (arXiv 2402.01306)
    CONTRAST = "contrast"  # good rationales near each other, poor ones apart (C3L, arXiv 2405.12752)


class PairSource(StrEnum):
    """Why one rationale is preferred to another, in falling order of trust."""

    FITS = "fits"  # people say that one fits and the other does not
    BEST = "best"  # both fit, one is starred as the best
    SCORE = "score"  # people gave one at least two stars more
    REFINED = "refined"  # sampled after a person asked for a change of the other, and scored higher
    EDITED = "edited"  # a person made it out of the other
    CSR = "csr"  # nobody judged the task; the calibrated rank, while it agrees with people
    NEGATIVE = "negative"  # the other was made to be wrong


@dataclass(frozen=True, slots=True)
class Example:
    """The task that a record belongs to."""

    task_id: int
    image: str
    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class PreferencePair(Example):
    """One rationale that is preferred to another of the same task.

    Attributes:
        weight: annotator agreement, divided among the pairs of the task.
    """

    chosen: str
    rejected: str
    source: PairSource
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class LabelledRationale(Example):
    """A rationale that fits or does not.

    Attributes:
        weight: annotator agreement.
        paired: it is also on a side of a preference pair of the same training set.
    """

    rationale: str
    desirable: bool
    weight: float = 1.0
    paired: bool = False


@dataclass(frozen=True, slots=True)
class Condition:
    """What is said of a rationale before it is told: stars from 1 to MAX_STARS, and a critique.

    None and "": nothing was said.
    """

    helpful: int | None = None
    honest: int | None = None
    harmless: int | None = None
    critique: str = ""


@dataclass(frozen=True, slots=True)
class FeedbackExample(Example):
    """A judged rationale with the condition under which it is learnt, however low its score.

    Attributes:
        fits: what this annotator said of it.
        before: the rationale of the turn before; "" in the first turn.
        refinement: what the annotator asked to change in it; "" in the first turn.
        implied: nobody gave stars; the condition's follow from `fits`.
        weight: share of the annotations of this rationale that said just this.
    """

    rationale: str
    fits: bool
    condition: Condition
    before: str = ""
    refinement: str = ""
    implied: bool = False
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class ContrastExample(Example):
    """Rationales that belong near the anchor, and others that belong far from it.

    Attributes:
        anchor: what the model says itself.
        pseudo: nobody judged the task; the two sides follow from content relevance.
    """

    anchor: str
    positives: tuple[str, ...]
    negatives: tuple[str, ...]
    pseudo: bool = False
    weight: float = 1.0
