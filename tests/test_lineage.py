"""Which annotations an adapter goes back to: literal tables, and properties over all chains of adapters."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from illume_plugin.lineage import (
    Change,
    Source,
    ancestry,
    clean_ancestor,
    inherited,
    people,
    said,
    sources_of,
)
from illume_plugin.types import (
    BASE_VERSION,
    JudgedTask,
    Origin,
    Preference,
    TrainingRow,
    TrainingSet,
    Verdict,
)

#: v0004 and v0005 both go on from v0003; v0006 was made from the base model anew.
PARENTS = {
    "v0001": "v0000",
    "v0002": "v0001",
    "v0003": "v0002",
    "v0004": "v0003",
    "v0005": "v0003",
    "v0006": "v0000",
}
DEPARTED = {"v0002": {11: Change.CHANGED}, "v0004": {11: Change.DELETED, 12: Change.DELETED}}


def preference(annotation_id: int, task_id: int, text: str = "x", *, annotator: int | None = 7) -> Preference:
    return Preference(2, task_id, annotation_id, annotator, text, Verdict.FITS, Origin.CANDIDATE, 1, "v0000")


def training_set(*rows: int, held_out: tuple[int, ...] = ()) -> TrainingSet:
    return TrainingSet(
        2,
        tuple(TrainingRow(task_id, "i", "q", "a") for task_id in rows),
        tuple(JudgedTask(task_id, "i", "q", "a") for task_id in held_out),
        "hash",
    )


def test_sources_are_the_annotations_of_the_tasks_that_are_used() -> None:
    preferences = [
        preference(21, 1, "b"),
        preference(21, 1, "a"),
        preference(22, 2, annotator=None),
        preference(23, 3),
        replace(preference(24, 1), project_id=3),
    ]
    found = sources_of(training_set(1, held_out=(2,)), preferences, {21: "d21", 23: "d23"})
    assert found == (
        Source(21, 1, 7, "d21", said(preferences[:2]), held_out=False),
        Source(22, 2, None, "", said([preferences[2]]), held_out=True),
    )


def test_what_an_annotation_says_has_no_order_and_any_change_shows() -> None:
    one, other = preference(1, 1, "a"), preference(1, 1, "b")
    assert said([one, other]) == said([other, one])
    assert len({said([one, other]), said([one]), said([]), said([one, replace(other, best=True)])}) == 4


@pytest.mark.parametrize(
    ("version", "line"),
    [
        ("v0000", []),
        ("v0001", ["v0001"]),
        ("v0005", ["v0005", "v0003", "v0002", "v0001"]),
        ("v0006", ["v0006"]),
        ("v0009", []),
    ],
)
def test_ancestry(version: str, line: list[str]) -> None:
    assert ancestry(version, PARENTS) == line


def test_a_ring_of_parents_ends() -> None:
    assert ancestry("v0001", {"v0001": "v0002", "v0002": "v0001"}) == ["v0001", "v0002"]


@pytest.mark.parametrize(
    ("version", "gone"),
    [
        ("v0001", {}),
        ("v0003", {11: Change.CHANGED}),
        ("v0004", {11: Change.DELETED, 12: Change.DELETED}),
        ("v0005", {11: Change.CHANGED}),
        ("v0006", {}),
    ],
)
def test_marks_are_inherited(version: str, gone: dict[int, Change]) -> None:
    assert inherited(version, PARENTS, DEPARTED) == gone


@pytest.mark.parametrize(
    ("version", "usable", "clean"),
    [
        ("v0005", {"v0001", "v0002", "v0003", "v0005"}, "v0001"),
        ("v0005", {"v0005"}, "v0000"),  # the weights of v0001 were removed
        ("v0001", {"v0001"}, "v0001"),
        ("v0006", {"v0006"}, "v0006"),
        ("v0000", set(), "v0000"),
    ],
)
def test_the_nearest_clean_ancestor(version: str, usable: set[str], clean: str) -> None:
    assert clean_ancestor(version, PARENTS, DEPARTED, usable=usable) == clean


@st.composite
def families(draw: st.DrawFn) -> dict[str, str]:
    count = draw(st.integers(1, 9))
    return {f"v{k:04d}": f"v{draw(st.integers(0, k - 1)):04d}" for k in range(1, count + 1)}


@given(families(), st.data())
def test_a_clean_successor_goes_back_to_nothing_that_is_gone(
    family: dict[str, str], data: st.DataObject
) -> None:
    versions = sorted(family)
    ids = st.dictionaries(st.integers(1, 4), st.sampled_from(Change), max_size=2)
    departed = {version: data.draw(ids) for version in versions}
    version = data.draw(st.sampled_from(versions))
    clean = clean_ancestor(version, family, departed, usable=versions)
    assert clean == BASE_VERSION or clean in ancestry(version, family)
    assert not any(departed[one] for one in ancestry(clean, family))
    nearer = ancestry(version, family)[: ancestry(version, family).index(clean)] if clean in family else []
    assert all(inherited(one, family, departed) for one in nearer), "the nearest one was taken"


def test_people_are_counted_by_what_was_learnt_from() -> None:
    def source(annotation_id: int, annotator: int | None, *, held_out: bool = False) -> Source:
        return Source(annotation_id, 1, annotator, "", "", held_out)

    found = people([source(1, 5), source(2, 4), source(3, None), source(4, 5), source(5, 9, held_out=True)])
    assert list(found.items()) == [(5, 2), (4, 1), (None, 1)]
