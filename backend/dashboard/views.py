"""The plain records that pages show, that /api gives as JSON and that /metrics counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from illume_plugin.forecast import Forecast
from illume_plugin.position_bias import PositionTest
from illume_plugin.types import Metric


@dataclass(frozen=True, slots=True)
class Counts:
    """How far a project is.

    Attributes:
        tasks: known and not deleted.
        sampled, pushed: tasks with candidates of the active version under the present sampling plan, and of
            these the ones that Label Studio has.
        unready: tasks that nobody has judged and that lack such candidates.
        judged: tasks with at least one live annotation, skipped ones among them.
        verdicts: verdicts on single rationales.
        waiting: verdicts noted since the last run was asked for.
        problems: tasks that could not be sampled.
    """

    tasks: int
    sampled: int
    pushed: int
    unready: int
    judged: int
    verdicts: int
    waiting: int
    problems: int


@dataclass(frozen=True, slots=True)
class FitRate:
    """How the candidates of one version fared with people.

    Attributes:
        learnt_from: ticked rationales that were there when its training began; 0 for the base model.
        tasks: tasks on which its candidates were judged.
    """

    version: str
    rate: Metric
    tasks: int
    learnt_from: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """One metric of the gate, before and after."""

    name: str
    active: Metric | None
    challenger: Metric | None


@dataclass(frozen=True, slots=True)
class RunView:
    """A training run.

    Attributes:
        done: share of the present stage, from 0 to 1; None where it is not known.
        eta_s: seconds left of the present stage.
        losses: (step, loss) along the way.
        reasons: what the gate said.
    """

    run_id: int
    project_id: int
    trigger: str
    state: str
    live: bool
    created_at: float
    started_at: float | None
    finished_at: float | None
    parent: str
    version: str | None
    error: str | None
    stage: str
    step: int | None
    steps: int | None
    done: float | None
    loss: float | None
    eta_s: float | None
    losses: tuple[tuple[int, float], ...] = ()
    reasons: tuple[str, ...] = ()
    comparisons: tuple[Comparison, ...] = ()


@dataclass(frozen=True, slots=True)
class VersionView:
    """An adapter version; v0000 is the base model without one.

    Attributes:
        state: serves, ready, retired or removed (backend.versions.State).
        retired: by whom and why it may not serve again.
        departed: annotations that it or an adapter before it learnt from and that were deleted or changed.
    """

    version: str
    state: str
    parent: str | None = None
    created_at: float | None = None
    run_id: int | None = None
    gate: str = ""
    training_set: str = ""
    base_model: str = ""
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    fit_rate: FitRate | None = None
    retired: str = ""
    departed: int = 0


@dataclass(frozen=True, slots=True)
class ProjectView:
    """A project at a glance."""

    project_id: int
    title: str
    active_version: str
    train_after: int
    counts: Counts
    live_run: RunView | None
    worker_until: float | None


@dataclass(frozen=True, slots=True)
class ShownCandidate:
    """One rationale of a task with what people said of it.

    Attributes:
        fits, unfits: how many verdicts of either kind.
        logprob_mean, i2c, pmi, relevance, rank: as in types.Candidate; None where it was not scored, and for
            what is on trial. Ranks of a list that two adapters filled are each one's own.
        versions: who wrote it, where that is not the version of the whole list; empty while a trial is open.
    """

    position: int
    text: str
    origin: str
    fits: int
    unfits: int
    best: int
    logprob_mean: float | None = None
    i2c: float | None = None
    pmi: float | None = None
    relevance: float | None = None
    rank: float | None = None
    versions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TaskView:
    """One task with the candidates that were shown for it.

    Attributes:
        versions: whose candidates these are; empty where there are none, two for a list from a trial.
        blind: they are of the trial that goes on, so that nothing tells who wrote which.
        problem: why there are no candidates, where something went wrong.
    """

    task_id: int
    question: str
    answer: str
    versions: tuple[str, ...]
    annotations: int
    candidates: tuple[ShownCandidate, ...]
    problem: str = ""
    blind: bool = False


@dataclass(frozen=True, slots=True)
class TaskPage:
    """Some tasks in the order of their ids; `before` and `after` name the neighbouring pages, if any."""

    tasks: tuple[TaskView, ...]
    before: int | None
    after: int | None


@dataclass(frozen=True, slots=True)
class AnnotatorView:
    """One annotator (Label Studio's user number; None where Label Studio did not say).

    Attributes:
        annotations: live ones among the newest, skipped ones not counted.
        seconds: median seconds per task, as Label Studio measured them.
        fit_rate: share of the candidates shown to this person that were ticked.
        agreement: share of verdicts that agree with another person's on the same rationale, and the number
            of such pairs.
        position: whether this person ticks by position.
    """

    annotator: int | None
    annotations: int
    skipped: int
    seconds: float | None
    fit_rate: Metric | None
    agreement: float | None
    pairs: int
    position: PositionTest


@dataclass(frozen=True, slots=True)
class AnnotatorsView:
    """Who labels, and how well they agree.

    Attributes:
        annotations: how many annotations were looked at, the newest ones.
        alpha: Krippendorff's alpha over tasks that several people judged; None without any.
        position: the test of position bias, everybody together.
    """

    annotations: int
    annotators: tuple[AnnotatorView, ...]
    alpha: Metric | None
    pairwise: float | None
    position: PositionTest


@dataclass(frozen=True, slots=True)
class CurveView:
    """The fit rate of each version, and what the curve through them says."""

    versions: tuple[FitRate, ...]
    forecast: Forecast


@dataclass(frozen=True, slots=True)
class Piece:
    """Health of one piece: `outcome` is ok, warning or failed."""

    name: str
    outcome: str
    detail: str
    todo: str = ""


@dataclass(frozen=True, slots=True)
class HealthView:
    """Health of every piece; the doctor's checks are as old as `examined_at` says, None before the first."""

    pieces: tuple[Piece, ...]
    examined_at: float | None
