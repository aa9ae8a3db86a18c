"""Which annotations an adapter learnt from, itself or through those before it, and what became of them. Pure.

An adapter goes on from its parent's weights, so it holds what its parent learnt: what an adapter learnt from
is what its own run learnt from together with what every ancestor did, down to the base model.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from operator import attrgetter

from illume_plugin.identity import content_hash
from illume_plugin.types import BASE_VERSION, Preference, TrainingSet

_SAID = tuple(each.name for each in fields(Preference) if each.name != "shared_with")
_values = attrgetter(*_SAID)


@dataclass(frozen=True, slots=True)
class Source:
    """One annotation that had a part in a run.

    Attributes:
        annotator: Label Studio's number of the person; None where it is not known.
        digest: of the annotation as it was stored, so that most unchanged ones are told at a glance.
        said: hash of the preferences that it held; the annotation has changed when they have.
        held_out: its task was for measuring only; the adapter learnt nothing from it.
    """

    annotation_id: int
    task_id: int
    annotator: int | None
    digest: str
    said: str
    held_out: bool


class Change(StrEnum):
    """What became of an annotation after an adapter had learnt from it."""

    DELETED = "deleted"
    CHANGED = "changed"


def sources_of(
    training_set: TrainingSet, preferences: Iterable[Preference], digests: Mapping[int, str]
) -> tuple[Source, ...]:
    """The annotations behind a training set, by id.

    An annotation counts when it says anything of a task that the set trains on or measures with, also where
    its votes were outnumbered: without them the set might be another.

    Args:
        preferences: those that the set was built from.
        digests: annotation id -> digest of its stored state, read in the same moment.
    """
    held_out = {task.task_id for task in training_set.held_out}
    used = {record.task_id for record in training_set.records}
    by_annotation: dict[int, list[Preference]] = {}
    for preference in preferences:
        if preference.project_id == training_set.project_id and preference.task_id in used:
            by_annotation.setdefault(preference.annotation_id, []).append(preference)
    return tuple(
        Source(
            annotation_id,
            held[0].task_id,
            held[0].annotator,
            digests.get(annotation_id, ""),
            said(held),
            held[0].task_id in held_out,
        )
        for annotation_id, held in sorted(by_annotation.items())
    )


def said(preferences: Iterable[Preference]) -> str:
    """Hash of what an annotation says, whatever order its preferences come in.

    Who else wrote a text is nothing that anybody says, and hashes from before that was known stay right.
    """
    return content_hash(
        sorted(content_hash(dict(zip(_SAID, _values(each), strict=True))) for each in preferences)
    )


def ancestry(version: str, parents: Mapping[str, str]) -> list[str]:
    """The version and the adapters before it, newest first, without the base model.

    Args:
        parents: version -> the version that it went on from. The chain ends where one is missing.
    """
    chain: list[str] = []
    while version != BASE_VERSION and version in parents and version not in chain:
        chain.append(version)
        version = parents[version]
    return chain


def inherited(
    version: str, parents: Mapping[str, str], departed: Mapping[str, Mapping[int, Change]]
) -> dict[int, Change]:
    """Annotation id -> what became of it, for all that the version or an ancestor learnt from.

    Args:
        departed: version -> the annotations that its own run learnt from and that are not what they were.
    """
    found: dict[int, Change] = {}
    for ancestor in reversed(ancestry(version, parents)):
        found |= departed.get(ancestor, {})
    return dict(sorted(found.items()))


def clean_ancestor(
    version: str,
    parents: Mapping[str, str],
    departed: Mapping[str, Mapping[int, Change]],
    *,
    usable: Collection[str],
) -> str:
    """The nearest version, this one or one before it, that learnt from no deleted or changed annotation.

    Args:
        usable: versions whose weights are there.

    Returns:
        The base model's version where every adapter on the way has learnt from one.
    """
    for ancestor in ancestry(version, parents):
        if ancestor in usable and not inherited(ancestor, parents, departed):
            return ancestor
    return BASE_VERSION


def people(sources: Sequence[Source]) -> dict[int | None, int]:
    """Annotator -> annotations, those that were learnt from only; most first."""
    counts: dict[int | None, int] = {}
    for source in sources:
        if not source.held_out:
            counts[source.annotator] = counts.get(source.annotator, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0] is None, item[0] or 0)))
