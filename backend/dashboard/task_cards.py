"""One task of the candidate browser: which of its lists is shown, and what people said of each row. No I/O.

While a trial is open nothing here tells which version wrote what: neither a name beside a row nor a figure
that one adapter gives higher than the other. When it is over, each row bears the name of who wrote it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from backend.dashboard.views import ShownCandidate, TaskView
from illume_plugin.errors import TaskError
from illume_plugin.label_config import LabelConfig, read_task
from illume_plugin.types import Candidate, CandidateSet, Origin, Preference, Project, Verdict

#: The preferences of each live annotation of a task.
Said = Sequence[Sequence[Preference]]
#: (version, plan) that a candidate set is kept under.
Key = tuple[str, str]


def which_set(
    sets: Sequence[CandidateSet], said: Said, project: Project, version: str | None, keys: Sequence[Key]
) -> CandidateSet | None:
    """The candidate set of a task that is to be shown.

    Args:
        sets: all that are stored of the task, oldest first.
        version: the one that was asked for; None: what people saw or, where nobody has judged, would see now.
        keys: of the sets that people would see now, the preferred one first.
    """
    present = {(each.version, each.plan): each for each in sets}
    now = next((present[key] for key in keys if key in present), None)
    if version is None:
        return seen(sets, said) if any(said) else now
    if now is not None and is_mixed(now) and version in project.adapters:
        return now  # beside the active version's own list the open trial's would tell who wrote what
    own = [each for each in sets if each.version == version and not is_mixed(each)]
    return own[-1] if own else seen(sets, said)


def seen(sets: Sequence[CandidateSet], said: Said) -> CandidateSet | None:
    """The set that people judged: the one that holds most of what they spoke of; None without any.

    Of sets that hold equally much a trial's, then the oldest.
    """
    judged = {_plain(each.original or each.text) for annotation in said for each in annotation}
    held = [(len(judged & {_plain(text) for text in each.texts}), is_mixed(each)) for each in sets]
    most = max(held, default=(0, False))
    return sets[held.index(most)] if most[0] else None


def is_mixed(candidate_set: CandidateSet) -> bool:
    """Whether it was made for a trial."""
    return any(each.versions for each in candidate_set.candidates)


def card(
    config: LabelConfig,
    project: Project,
    task_id: int,
    data: Mapping[str, Any],
    candidate_set: CandidateSet | None,
    said: Said,
    failed: str,
) -> TaskView:
    """The task as it is shown.

    Args:
        failed: why it could not be sampled; empty where it could.
    """
    problem = failed
    try:
        task = read_task(config, project.project_id, task_id, data)
        question, answer = task.question, task.answer
    except TaskError as error:
        question, answer, problem = "", "", error.what
    blind = project.challenger is not None
    return TaskView(
        task_id=task_id,
        question=question,
        answer=answer,
        versions=_versions(project, candidate_set, said, blind=blind),
        blind=blind and candidate_set is not None and is_mixed(candidate_set),
        annotations=len(said),
        candidates=_rows(candidate_set, said, blind=blind),
        problem="" if candidate_set else problem,
    )


def _versions(
    project: Project, candidate_set: CandidateSet | None, said: Said, *, blind: bool
) -> tuple[str, ...]:
    if candidate_set is None:
        drawn = {each.version for annotation in said for each in annotation if each.version}
        return () if blind else tuple(sorted(drawn))
    if not is_mixed(candidate_set):
        return (candidate_set.version,)
    if blind:
        return project.adapters  # whatever is in it
    wrote = {version for each in candidate_set.candidates for version in each.versions}
    return (candidate_set.version, *sorted(wrote - {candidate_set.version}))


def _rows(candidate_set: CandidateSet | None, said: Said, *, blind: bool) -> tuple[ShownCandidate, ...]:
    """The set's candidates in display order, then what was judged beside them (edited, own, older ones)."""
    verdicts = [each for annotation in said for each in annotation]
    mixed = candidate_set is not None and is_mixed(candidate_set)
    rows: dict[str, ShownCandidate] = {}
    for position, each in enumerate(candidate_set.candidates if candidate_set else (), start=1):
        text = _plain(each.text)
        wrote = each.versions if mixed and not blind else ()
        row = ShownCandidate(
            position, each.text, Origin.CANDIDATE.value, *_votes(text, verdicts), versions=wrote
        )
        rows[text] = row if mixed and blind else _with_figures(row, each)
    for said_of in sorted(verdicts, key=lambda one: one.position or 99):
        text = _plain(said_of.text)
        if text not in rows:
            wrote = () if blind else _wrote(said_of)
            told = _votes(text, verdicts)
            rows[text] = ShownCandidate(
                said_of.position, said_of.text, said_of.origin.value, *told, versions=wrote
            )
    return tuple(rows.values())


def _wrote(said: Preference) -> tuple[str, ...]:
    if said.origin is not Origin.CANDIDATE:
        return ()  # a person did, at least in part
    return tuple(version for version in (said.version, said.shared_with) if version)


def _with_figures(row: ShownCandidate, candidate: Candidate) -> ShownCandidate:
    return replace(
        row,
        logprob_mean=candidate.logprob_mean,
        i2c=candidate.i2c,
        pmi=candidate.pmi,
        relevance=candidate.relevance,
        rank=candidate.rank,
    )


def _votes(text: str, verdicts: Sequence[Preference]) -> tuple[int, int, int]:
    """(fits, does not fit, is the best) of a text."""
    those = [each for each in verdicts if _plain(each.text) == text]
    fits = sum(each.verdict is Verdict.FITS for each in those)
    return fits, len(those) - fits, sum(each.best for each in those)


def _plain(text: str) -> str:
    return text.strip()
