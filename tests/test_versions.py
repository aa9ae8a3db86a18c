"""Versions as people deal with them: states, overrides, retirement, clean-up, and clean successors."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import SayingGenerator
from test_retrain import StandInChild, active, child, labelled, run_now, submitted  # noqa: F401 - fixtures

from backend.retrain import Retrain
from backend.service import Service
from backend.versions import (
    State,
    clean_parent,
    collect,
    collectable,
    line_of,
    promote,
    reinstate,
    retire,
    standings,
    versions_with,
)
from illume_plugin.errors import BadRequestError, ConflictError, NotFoundError
from illume_plugin.lineage import Change
from illume_plugin.store import judgements, runs
from illume_plugin.types import Run

Child = type[StandInChild]


@pytest.fixture
def three(labelled: Service, child: Child) -> Service:  # noqa: F811
    """Project 2 after three runs, each promoted."""
    for _ in range(3):
        run_now(labelled)
    return labelled


def states(service: Service) -> dict[str, State]:
    return {one.version: one.state for one in standings(service, 2)}


def learnt_from(service: Service, version: str) -> list[int]:
    origin = line_of(service, 2, version)[0]
    return [source.annotation_id for source in origin.sources if not source.held_out]


def train_clean(service: Service) -> Run:
    service.request_training(2, trigger="test", without_deleted=True)
    ended = Retrain(service, owner="worker").claim_and_run()
    assert ended is not None
    return ended


def test_a_version_knows_its_annotations_and_people(three: Service) -> None:
    line = line_of(three, 2, "v0003")
    assert [one.meta.version for one in line] == ["v0003", "v0002", "v0001"]
    sources = line[0].sources
    assert {source.annotation_id for source in sources} == set(range(101, 131))
    assert {source.annotator for source in sources} == {1}
    assert 0 < sum(source.held_out for source in sources) < 30
    with three.store.read() as conn:
        run = runs.get(conn, line[0].run_id or 0)
    assert run.version == "v0003"


def test_an_annotation_knows_its_versions(three: Service) -> None:
    annotation = learnt_from(three, "v0001")[0]
    assert set(versions_with(three, 2, annotation)) == {"v0001", "v0002", "v0003"}
    assert versions_with(three, 2, 999) == {}


def test_a_version_that_never_was_has_no_line(three: Service) -> None:
    with pytest.raises(NotFoundError, match="v0001, v0002, v0003"):
        line_of(three, 2, "v0009")


def test_a_deleted_annotation_marks_every_version_that_goes_back_to_it(three: Service) -> None:
    annotation = learnt_from(three, "v0001")[0]
    with three.store.write() as conn:
        judgements.delete(conn, 2, annotation)
    run_now(three)
    gone = {one.version: dict(one.departed) for one in standings(three, 2)}
    assert gone == {f"v000{k}": {annotation: Change.DELETED} for k in range(1, 5)}
    assert annotation not in learnt_from(three, "v0004"), "it did not learn from it, but its parents did"
    assert clean_parent(three, 2) == "v0000"


def test_a_changed_annotation_marks_too(three: Service) -> None:
    annotation = learnt_from(three, "v0001")[0]
    body = submitted(annotation - 100, ["c2"])
    body["annotation"]["updated_at"] = "2026-11-22T01:00:00Z"
    three.receive(body)
    three.apply_events()
    assert dict(standings(three, 2)[0].departed) == {annotation: Change.CHANGED}


def test_a_run_without_deleted_goes_on_from_a_clean_version_and_is_compared_with_what_serves(
    labelled: Service,  # noqa: F811
    child: Child,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import backend.retrain

    specs: list[Any] = []
    write_spec = backend.retrain.write_spec
    monkeypatch.setattr(
        backend.retrain, "write_spec", lambda folder, spec: (specs.append(spec), write_spec(folder, spec))
    )
    run_now(labelled)
    later = submitted(31, ["c1"], annotation_id=200)
    for _ in range(40):  # until a task comes that is not held out
        labelled.receive(later)
        run_now(labelled)
        if 200 in learnt_from(labelled, active(labelled)):
            break
        later["task"]["data"]["question"] += "?"
        later["annotation"]["updated_at"] += "0"
    dirty = active(labelled)
    with labelled.store.write() as conn:
        judgements.delete(conn, 2, 200)
    run = train_clean(labelled)
    assert run.without_deleted
    assert specs[-1].parent_version == run.parent == clean_parent_of(labelled, dirty)
    assert specs[-1].active_version == dirty
    newest = standings(labelled, 2)[-1]
    assert newest.version == run.version
    assert not newest.departed


def clean_parent_of(service: Service, dirty: str) -> str:
    """The version before the first one that learnt from annotation 200."""
    first = min(versions_with(service, 2, 200))
    assert first <= dirty
    return next(one.meta.parent for one in line_of(service, 2, first))


def test_a_run_without_deleted_where_all_is_clean_goes_on_from_what_serves(three: Service) -> None:
    assert clean_parent(three, 2) == "v0003"
    assert train_clean(three).parent == "v0003"


def test_the_gate_is_overridden_only_with_a_reason_that_is_kept(
    labelled: Service,  # noqa: F811
    child: Child,  # noqa: F811
) -> None:
    child.challenger = 0.2
    assert run_now(labelled).version == "v0001"
    with pytest.raises(BadRequestError, match="--reason"):
        promote(labelled, 2, "v0001", who="ann", reason=" ")
    assert active(labelled) == "v0000"
    promote(labelled, 2, "v0001", who="ann", reason="the customer wants it short")
    (one,) = standings(labelled, 2)
    assert (one.state, one.gate) == (State.SERVES, "hold")
    assert [(s.who, s.reason) for s in one.switches] == [("ann", "the customer wants it short")]


def test_what_the_gate_let_through_needs_no_reason(three: Service) -> None:
    assert promote(three, 2, "v0001", who="ann") == "v0003"
    assert [(s.who, s.reason) for s in standings(three, 2)[0].switches] == [
        ("run 1", "the gate"),
        ("ann", "promoted"),
    ]


def test_a_retired_version_neither_serves_nor_is_offered(three: Service) -> None:
    retire(three, 2, "v0002", who="ann", reason="wrong folder")
    assert states(three) == {"v0001": State.READY, "v0002": State.RETIRED, "v0003": State.SERVES}
    assert three.versions(2) == ["v0000", "v0001", "v0003"]
    with pytest.raises(ConflictError, match="wrong folder"):
        promote(three, 2, "v0002", who="bob")
    assert three.rollback(2, reason="test") == ("v0003", "v0001")
    reinstate(three, 2, "v0002")
    assert promote(three, 2, "v0002", who="bob") == "v0001"


def test_what_does_not_exist_is_not_retired(three: Service) -> None:
    with pytest.raises(NotFoundError):
        retire(three, 2, "v0009", who="ann", reason="x")
    with pytest.raises(NotFoundError, match="is not retired"):
        reinstate(three, 2, "v0001")


@pytest.mark.parametrize(
    ("serves", "keep", "gone"),
    [
        ("v0003", 1, ["v0001"]),  # v0002 is what a rollback goes back to
        ("v0003", 2, ["v0001"]),
        ("v0003", 3, []),
        ("v0001", 1, ["v0002"]),  # v0003 is the newest, and served before
    ],
)
def test_what_is_collected(three: Service, serves: str, keep: int, gone: list[str]) -> None:
    promote(three, 2, serves, who="ann")
    assert collectable(three, 2, keep=keep) == gone
    assert collect(three, 2, keep=keep, who="ann") == gone
    assert states(three)[serves] is State.SERVES
    assert [version for version, state in states(three).items() if state is State.REMOVED] == gone
    assert collect(three, 2, keep=keep, who="ann") == []


def test_what_was_collected_cannot_serve_but_its_line_stays_whole(
    three: Service, generator: SayingGenerator
) -> None:
    collect(three, 2, keep=1, who="ann")
    with pytest.raises(ConflictError, match="weights were removed"):
        promote(three, 2, "v0001", who="ann", reason="x")
    with pytest.raises(NotFoundError):
        reinstate(three, 2, "v0001")
    assert [one.meta.version for one in line_of(three, 2, "v0003")] == ["v0003", "v0002", "v0001"]
    assert run_now(three).version == "v0004"


def test_the_parent_of_a_live_run_stays(three: Service) -> None:
    run, _ = three.request_training(2, trigger="test")
    assert run.parent == "v0003"
    promote(three, 2, "v0001", who="ann")
    promote(three, 2, "v0002", who="ann")
    retire(three, 2, "v0003", who="ann", reason="x")
    assert collectable(three, 2, keep=1) == []
    with three.store.write() as conn:
        runs.request_cancel(conn, run.run_id, now=1.0)
    assert collectable(three, 2, keep=1) == ["v0003"]
