"""The plain records that travel between modules: no I/O, no behaviour beyond trivial views."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import Any

from illume_plugin.examples import (
    ContrastExample,
    Example,
    FeedbackExample,
    LabelledRationale,
    PreferencePair,
)

#: Version string of the untuned base model. Adapters are v0001, v0002, ...
BASE_VERSION = "v0000"

#: A candidate list never holds more: the labelling configuration has ten rows (keys 1 to 0).
MAX_CANDIDATES = 10
#: The largest id that SQLite and PostgreSQL can hold.
MAX_ID = 2**63 - 1

Json = Any


@dataclass(frozen=True, slots=True)
class Project:
    """A Label Studio project we are connected to.

    Attributes:
        active_version: the version that serves.
        challenger: the version on trial beside it, if any: people compare the two without knowing whose
            candidates they tick.
    """

    project_id: int
    title: str
    label_config: str
    active_version: str = BASE_VERSION
    challenger: str | None = None

    @property
    def adapters(self) -> tuple[str, ...]:
        """The versions that draw its candidates, the active one first."""
        return (self.active_version,) if self.challenger is None else (self.active_version, self.challenger)


@dataclass(frozen=True, slots=True)
class Task:
    """One (image, question, answer) triple of a project.

    Attributes:
        image: the URL or path exactly as it stands in Label Studio's task data.
    """

    project_id: int
    task_id: int
    image: str
    question: str
    answer: str


class Blind(StrEnum):
    """What stood in for "without the picture" when a text was scored."""

    TEXT = "text"  # the same prompt with no picture at all
    GREY = "grey"  # a grey picture: for models that refuse a prompt without one


@dataclass(frozen=True, slots=True)
class Scores:
    """What the adapter that is asked makes of one rationale, given picture, question and answer.

    Attributes:
        logprob_mean: mean log-probability per token in nats, the end token among them.
        sentence_logprobs: log-probability of each sentence (CSR's R_T, arXiv 2405.14622), the end token in
            the last one; they add up to the log-probability of the whole text.
        i2c: C3L's content relevance (arXiv 2405.12752), at least 0; 0 for texts of one token.
        pmi: mean over the text's tokens of log P(with picture) / P(without), nats.
        blind: what "without the picture" was; None where i2c and pmi were not asked for.
    """

    logprob_mean: float
    sentence_logprobs: tuple[float, ...] = ()
    i2c: float | None = None
    pmi: float | None = None
    blind: Blind | None = None


class Side(StrEnum):
    """Which end of a sentence search a rationale is from."""

    BEST = "best"
    WORST = "worst"


@dataclass(frozen=True, slots=True)
class Searched:
    """What a sentence search (CSR, arXiv 2405.14622) made of one rationale while it was found.

    Attributes:
        rank: mean of `ranks`, the reward of its path, in [0, 1]; 1 is the best.
        ranks: of each sentence, its calibrated rank among the sentences that were tried in its place.
        logprobs: of each sentence, its log-probability in nats behind the prompt that it was drawn with
            (R_T), the end token in the last one.
        relevances: of each sentence, how well it goes with the picture, in [0, 100] (R_I); empty where there
            was no image-text encoder, so that the likelihood ranked alone.
        side: whether it is one of the best or of the worst rationales found behind its prompt; None between.
    """

    rank: float
    ranks: tuple[float, ...]
    logprobs: tuple[float, ...]
    relevances: tuple[float, ...] = ()
    side: Side | None = None


@dataclass(frozen=True, slots=True)
class Wish:
    """What an annotator asks for in place of the candidates on the screen (DRESS's refinement).

    Attributes:
        round: the round of candidates that it ends, from 1.
        text: in the annotator's words; an empty one asks for others, whatever they say.
        before: the candidate that it is about.
        shown: texts that have been on the screen and are not to be shown again.
        rows: candidates that there is room for.
    """

    round: int
    text: str
    before: str
    shown: frozenset[str] = frozenset()
    rows: int = MAX_CANDIDATES


@dataclass(frozen=True, slots=True)
class Candidate:
    """One sampled rationale, how it came about, and what is thought of it. None: it was not scored.

    Attributes:
        logprob_mean: as in Scores, and so are `sentence_logprobs`, `i2c`, `pmi` and `blind`; by the adapter
            that sampled the text.
        relevance: how well the text goes with the picture by an image-text encoder, in [0, 100]: mean of
            `sentence_relevances`, which holds max(100 cosine, 0) of each sentence (CSR's R_I).
        rank: calibrated rank among the task's candidates, in [0, 1]; 1 is the best.
        prompt: what it was drawn behind. A plan may have several prompts; scores are always behind the base
            model's own one.
        searched: how a sentence search found it; None for a text that was drawn in one go. Temperature and
            seed are then those of its last sentence; the seed tells the path before it.
        versions: in a set that two adapters filled, the versions that wrote it; else empty, since the set
            tells.
    """

    text: str
    temperature: float
    seed: int
    prompt: str = ""
    logprob_mean: float | None = None
    sentence_logprobs: tuple[float, ...] = ()
    i2c: float | None = None
    pmi: float | None = None
    blind: Blind | None = None
    relevance: float | None = None
    sentence_relevances: tuple[float, ...] = ()
    rank: float | None = None
    searched: Searched | None = None
    versions: tuple[str, ...] = ()

    def with_scores(self, scores: Scores) -> Candidate:
        """The same candidate with what an adapter makes of it."""
        return replace(self, **{each.name: getattr(scores, each.name) for each in fields(scores)})


@dataclass(frozen=True, slots=True)
class CandidateSet:
    """The candidates of one task from one adapter under one sampling plan, in display order.

    Its identity is (project_id, task_id, version, plan).

    Attributes:
        plan: hash of the sampling plan.
        order_seed: seed of the shuffle that gave the display order.
        score: in [0, 1]; shown by Label Studio, sortable in its Data Manager.
        dropped: draws that are not among the candidates, by reason (`selection.Reason`); empty for sets
            made before reasons were kept.
    """

    project_id: int
    task_id: int
    version: str
    plan: str
    order_seed: int
    score: float
    candidates: tuple[Candidate, ...]
    dropped: Mapping[str, int] = field(default_factory=dict)

    @property
    def texts(self) -> list[str]:
        """The candidate texts in display order."""
        return [c.text for c in self.candidates]

    @property
    def own(self) -> tuple[Candidate, ...]:
        """Those whose figures may be compared with each other: what the set's version alone wrote.

        In a set that two adapters filled, each measured its own texts, and ranks are among each one's own.
        """
        return tuple(c for c in self.candidates if c.versions in ((), (self.version,)))


class Verdict(StrEnum):
    """What a person said of a rationale."""

    FITS = "fits"
    UNFIT = "unfit"


class Origin(StrEnum):
    """Where a rationale's text came from."""

    CANDIDATE = "candidate"  # sampled, shown unchanged
    EDITED = "edited"  # sampled, then changed by the annotator
    OWN = "own"  # written by the annotator


@dataclass(frozen=True, slots=True)
class Preference:
    """What one person said of one rationale.

    Attributes:
        position: 1-based row on screen; 0 for a rationale the annotator wrote.
        version: adapter that sampled the text; None when unknown or written by a person.
        original: what an edited text was made from.
        helpful, honest, harmless: stars from 1 to 4.
        critique: what the annotator said is right or wrong with it.
        turn: round of candidates in which it came up first, from 1.
        before, refinement: from the second round on, the rationale of the round before that the annotator
            wanted changed, and the change that was asked for.
        shared_with: during a trial, the other version that wrote the same text.
    """

    project_id: int
    task_id: int
    annotation_id: int
    annotator: int | None
    text: str
    verdict: Verdict
    origin: Origin
    position: int
    version: str | None
    best: bool = False
    original: str = ""
    helpful: int | None = None
    honest: int | None = None
    harmless: int | None = None
    critique: str = ""
    turn: int = 1
    before: str = ""
    refinement: str = ""
    shared_with: str | None = None


@dataclass(frozen=True, slots=True)
class Annotation:
    """The latest known state of one Label Studio annotation."""

    project_id: int
    annotation_id: int
    task_id: int
    updated_at: str
    was_cancelled: bool
    annotator: int | None
    lead_time: float | None
    result: tuple[Mapping[str, Json], ...]


@dataclass(frozen=True, slots=True)
class TrainingRow:
    """One training example.

    Attributes:
        rationale: the accepted rationale, or None for an answer-only row.
        weight: weight of the rationale's loss (annotator agreement), 1 where everyone agrees.
        i2c: of the candidate that the rationale was, as in Scores; only where rationales are weighed by it.
    """

    task_id: int
    image: str
    question: str
    answer: str
    rationale: str | None = None
    weight: float = 1.0
    i2c: float | None = None


@dataclass(frozen=True, slots=True)
class JudgedTask:
    """A held-out task with what people said of rationales, for evaluation only."""

    task_id: int
    image: str
    question: str
    answer: str
    fits: tuple[str, ...] = ()
    unfits: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """An immutable snapshot: what a run trains on, what it is evaluated on, and their hash.

    Attributes:
        rows: for ILLUME's mixed loss.
        pairs, labels, feedback, contrast: for the objectives DPO, KTO, DRESS and contrast.
    """

    project_id: int
    rows: tuple[TrainingRow, ...]
    held_out: tuple[JudgedTask, ...]
    content_hash: str
    pairs: tuple[PreferencePair, ...] = ()
    labels: tuple[LabelledRationale, ...] = ()
    feedback: tuple[FeedbackExample, ...] = ()
    contrast: tuple[ContrastExample, ...] = ()

    @property
    def accepted(self) -> int:
        """Number of rows with an accepted rationale."""
        return sum(row.rationale is not None for row in self.rows)

    @property
    def records(self) -> tuple[TrainingRow | JudgedTask | Example, ...]:
        """Every record, held-out tasks among them: whose pictures a run needs."""
        return (*self.rows, *self.held_out, *self.pairs, *self.labels, *self.feedback, *self.contrast)


@dataclass(frozen=True, slots=True)
class Metric:
    """One measured figure with its 95 % interval."""

    value: float
    low: float
    high: float
    n: int
    higher_is_better: bool = True


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """Metrics of one adapter version on the held-out tasks of one training set."""

    version: str
    training_set: str
    metrics: Mapping[str, Metric]
    #: metric name -> per-item outcome, in held-out order: what paired comparison needs
    outcomes: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


class GateVerdict(StrEnum):
    """What the gate decided about a new adapter."""

    PROMOTE = "promote"
    HOLD = "hold"


@dataclass(frozen=True, slots=True)
class GateDecision:
    """The gate's decision with its reasons, one sentence each.

    Attributes:
        thin: it is held back for nothing but a lack of evidence.
    """

    verdict: GateVerdict
    reasons: tuple[str, ...]
    thin: bool = False


class RunState(StrEnum):
    """Life of a training run. QUEUED and RUNNING are live; the others are final."""

    QUEUED = "queued"
    RUNNING = "running"
    PROMOTED = "promoted"
    HELD = "held"
    TRIAL = "trial"  # its version went on trial: people decide
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Run:
    """One training run as the store knows it.

    Attributes:
        without_deleted: it goes on from the nearest adapter without deleted or changed annotations.
    """

    run_id: int
    project_id: int
    trigger: str
    state: RunState
    created_at: float
    started_at: float | None
    finished_at: float | None
    parent: str
    version: str | None
    training_set: str | None
    progress: Mapping[str, Json]
    report: Mapping[str, Json]
    error: str | None
    without_deleted: bool = False


@dataclass(frozen=True, slots=True)
class Switch:
    """A change of the version that serves a project.

    Attributes:
        who: the person, or what switched by itself (`run 7`); empty for switches from before it was kept.
        switched_at: seconds since the epoch.
    """

    from_version: str
    to_version: str
    who: str
    reason: str
    switched_at: float


@dataclass(frozen=True, slots=True)
class Retirement:
    """A version that is never to serve again, by whom and why."""

    version: str
    who: str
    reason: str
    retired_at: float


@dataclass(frozen=True, slots=True)
class AdapterMeta:
    """What `meta.json` beside an adapter's weights says.

    Attributes:
        files: file name -> sha256 of every file of the version.
        created_at: seconds since the epoch.
    """

    version: str
    project_id: int
    parent: str
    base_model: str
    base_model_hash: str
    training_set: str
    config: Mapping[str, Json]
    seed: int
    metrics: Mapping[str, Json]
    versions: Mapping[str, str]
    created_at: float
    files: Mapping[str, str] = field(default_factory=dict)
