"""The store: the same preferences as the pure fold whatever the order, one live run, leases, migrations."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import both_stores, recorded
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from illume_plugin.errors import ConflictError, NotFoundError
from illume_plugin.lineage import Change, Source, said
from illume_plugin.preferences import fold, preferences_of, read_annotation, strip_secrets
from illume_plugin.store import (
    Store,
    candidates,
    events,
    judgements,
    leases,
    lineage,
    projects,
    runs,
    versions,
)
from illume_plugin.store.tables import metadata
from illume_plugin.types import (
    Blind,
    Candidate,
    CandidateSet,
    Preference,
    RunState,
    Searched,
    Side,
)

pytestmark = both_stores

STORED = Path(__file__).parent / "stored" / "full_annotation_interactive.json"


@pytest.fixture
def store(database: str) -> Iterator[Store]:
    store = Store(database)
    yield store
    store.close()


def annotated(
    annotation_id: int, minute: int, ticks: list[str], *, task_id: int = 1, **more: Any
) -> dict[str, Any]:
    """An ANNOTATION_UPDATED body: candidates c1..c3 with these ticked, as of this minute."""
    result = [
        {
            "from_name": "cand",
            "to_name": "image",
            "type": "textarea",
            "value": {"text": ["one", "two", "three"]},
        },
        {"from_name": "fits", "to_name": "image", "type": "choices", "value": {"choices": ticks}},
    ]
    annotation = {
        "id": annotation_id,
        "task": task_id,
        "updated_at": f"2026-11-22T00:{minute:02d}:00.000000Z",
        "result": result,
        "was_cancelled": False,
        "completed_by": 1,
        **more,
    }
    return {
        "action": "ANNOTATION_UPDATED",
        "annotation": annotation,
        "task": {"id": task_id, "data": {"image": "a"}},
        "project": {"id": 2},
    }


def deleted(kind: str, *ids: int) -> dict[str, Any]:
    key = "annotations" if kind == "ANNOTATIONS_DELETED" else "tasks"
    return {"action": kind, key: [{"id": i} for i in ids], "project": {"id": 2}}


bodies = st.one_of(
    st.builds(
        annotated,
        st.integers(1, 3),
        st.integers(0, 4),
        st.lists(st.sampled_from(["c1", "c2", "c3", "none"]), unique=True),
        task_id=st.integers(1, 2),
        was_cancelled=st.booleans(),
    ),
    st.builds(deleted, st.just("ANNOTATIONS_DELETED"), st.integers(1, 3)),
    st.builds(deleted, st.just("TASKS_DELETED"), st.integers(1, 2)),
)


def key_of(preference: Preference) -> tuple[int, int, str]:
    return preference.annotation_id, preference.position, preference.text


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(bodies, max_size=12), st.randoms(use_true_random=False))
def test_stored_preferences_are_the_pure_fold_in_any_order_with_repetitions(
    store: Store, received: list[dict[str, Any]], random: Any
) -> None:
    received = [_pinned(body) for body in received]
    shuffled = received + random.sample(received, k=len(received) // 2)
    random.shuffle(shuffled)
    with store.write() as conn:
        for table in reversed(metadata.sorted_tables):
            conn.execute(table.delete())
    for body in shuffled:
        with store.write() as conn:
            events.append(conn, body, now=1.0)
            if random.random() < 0.5:  # applied one by one or many at once
                events.apply_pending(conn, now=2.0)
    with store.write() as conn:
        while events.apply_pending(conn, now=3.0, limit=2):
            pass
    with store.read() as conn:
        found = judgements.preferences_in(conn, 2)
    wanted = [p for annotation in fold(received).annotations for p in preferences_of(annotation)]
    assert sorted(found, key=key_of) == sorted(wanted, key=key_of)


def _pinned(body: dict[str, Any]) -> dict[str, Any]:
    """An annotation stays with one task for ever."""
    if "annotation" in body:
        task_id = 1 + body["annotation"]["id"] % 2
        body["annotation"]["task"] = body["task"]["id"] = task_id
    return body


def test_exactly_the_same_event_is_kept_once(store: Store) -> None:
    body = strip_secrets(recorded("24")["body"])
    with store.write() as conn:
        assert events.append(conn, body, now=1.0)
        assert not events.append(conn, body, now=2.0)
        assert events.count(conn, 2) == 1


@pytest.mark.parametrize("named", [2**63, 2**70, -1, "2", None, True, [2], 2.5, {}])
def test_an_event_of_an_odd_project_is_kept(store: Store, named: Any) -> None:
    with store.write() as conn:
        assert events.append(conn, {"action": "SOMETHING_NEW", "project": {"id": named}}, now=1.0)
        assert events.apply_pending(conn, now=2.0) == 1
        assert events.problems(conn) == []


def test_an_event_that_cannot_be_understood_is_kept_with_the_reason(store: Store) -> None:
    broken = {"action": "ANNOTATION_CREATED", "annotation": {"id": "x"}, "project": {"id": 2}}
    with store.write() as conn:
        events.append(conn, broken, now=1.0)
        assert events.apply_pending(conn, now=2.0) == 1
        assert events.apply_pending(conn, now=3.0) == 0
        ((_, reason),) = events.problems(conn)
    assert "annotation" in reason


def test_a_failed_transaction_leaves_nothing(store: Store) -> None:
    def fail() -> None:
        with store.write() as conn:
            events.append(conn, annotated(1, 1, ["c1"]), now=1.0)
            raise RuntimeError("the power went")

    with pytest.raises(RuntimeError):
        fail()
    with store.read() as conn:
        assert events.count(conn, 2) == 0


def test_a_reader_sees_the_state_before_a_writer_has_finished(store: Store) -> None:
    with store.write() as writer:
        events.append(writer, annotated(1, 1, ["c1"]), now=1.0)
        with store.read() as reader:
            assert events.count(reader, 2) == 0


def connect(store: Store, project_id: int = 2) -> None:
    with store.write() as conn:
        projects.put(conn, project_id, title="t", label_config="<View/>", now=1.0)


def test_only_one_run_of_a_project_is_live(store: Store) -> None:
    connect(store)
    connect(store, 3)
    with store.write() as conn:
        first, new = runs.enqueue(conn, 2, trigger="a", now=1.0)
        again, not_new = runs.enqueue(conn, 2, trigger="b", now=2.0)
        other, also_new = runs.enqueue(conn, 3, trigger="c", now=3.0)
    assert (new, not_new, also_new) == (True, False, True)
    assert first == again != other


def test_a_run_is_claimed_once_and_again_when_its_owner_is_gone(store: Store) -> None:
    connect(store)
    with store.write() as conn:
        run_id, _ = runs.enqueue(conn, 2, trigger="a", now=1.0)
        assert runs.claim(conn, owner="one", now=2.0).run_id == run_id  # type: ignore[union-attr]
        assert runs.claim(conn, owner="two", now=3.0) is None
        assert runs.heartbeat(conn, run_id, owner="one", now=50.0, progress={"step": 1})
        assert runs.claim(conn, owner="two", now=100.0) is None, "the heartbeat renewed the lease"
        taken = runs.claim(conn, owner="two", now=50.0 + runs.LEASE_S + 1)
        assert taken is not None
        assert taken.started_at == 2.0
        assert not runs.heartbeat(conn, run_id, owner="one", now=200.0)
        with pytest.raises(ConflictError):
            runs.finish(conn, run_id, RunState.PROMOTED, owner="one", now=201.0, version="v0001")
        runs.finish(conn, run_id, RunState.HELD, owner="two", now=202.0, version="v0001")
        assert runs.get(conn, run_id).state is RunState.HELD
        assert runs.live_run(conn, 2) is None


def test_cancelling(store: Store) -> None:
    connect(store)
    with store.write() as conn:
        queued, _ = runs.enqueue(conn, 2, trigger="a", now=1.0)
        assert runs.request_cancel(conn, queued, now=2.0).state is RunState.CANCELLED
        running, _ = runs.enqueue(conn, 2, trigger="a", now=3.0)
        runs.claim(conn, owner="one", now=4.0)
        assert runs.request_cancel(conn, running, now=5.0).state is RunState.RUNNING
        assert not runs.heartbeat(conn, running, owner="one", now=6.0), "it must stop now"
        with pytest.raises(ConflictError):
            runs.request_cancel(conn, queued, now=7.0)
        with pytest.raises(NotFoundError):
            runs.request_cancel(conn, 99, now=7.0)


def test_going_back_is_a_stack(store: Store) -> None:
    connect(store)
    with store.write() as conn:
        assert versions.previous_version(conn, 2) is None
        for version in ("v0001", "v0002", "v0003"):
            versions.switch(conn, 2, version, reason="run", now=1.0)
        for expected in ("v0002", "v0001", "v0000"):
            assert versions.previous_version(conn, 2) == expected
            versions.switch(conn, 2, expected, reason="back", now=2.0)
        assert versions.previous_version(conn, 2) is None


def test_leases(store: Store) -> None:
    with store.write() as conn:
        assert leases.take(conn, "x", owner="one", now=0.0, seconds=10)
        assert not leases.take(conn, "x", owner="two", now=5.0, seconds=10)
        assert leases.take(conn, "x", owner="one", now=9.0, seconds=10), "renewed"
        assert not leases.take(conn, "x", owner="two", now=15.0, seconds=10)
        assert leases.take(conn, "x", owner="two", now=20.0, seconds=10), "ran out"
        leases.give_back(conn, "x", owner="one")
        assert not leases.take(conn, "x", owner="one", now=21.0, seconds=10), "not one's to give back"
        leases.give_back(conn, "x", owner="two")
        assert leases.take(conn, "x", owner="one", now=22.0, seconds=10)


def candidate_set(task_id: int, text: str, order_seed: int = 2**53 - 1) -> CandidateSet:
    return CandidateSet(2, task_id, "v0001", "plan", order_seed, 0.5, (Candidate(text, 0.3, 7, "p", -1.0),))


def test_the_first_candidate_set_of_an_identity_stays(store: Store) -> None:
    with store.write() as conn:
        first = candidates.put(conn, candidate_set(1, "first"), now=1.0)
        second = candidates.put(conn, candidate_set(1, "second"), now=2.0)
        assert first == second == candidate_set(1, "first")
        assert candidates.get(conn, 2, [1, 9], version="v0001", plan="plan") == {1: first}
        assert candidates.get(conn, 2, [1], version="v0002", plan="plan") == {}


@pytest.mark.parametrize("side", [Side.WORST, None])
def test_what_a_search_made_of_a_candidate_comes_back(store: Store, side: Side | None) -> None:
    searched = Searched(0.7, (0.5, 0.9), (-2.5, -0.5), (20.0, 30.0), side)
    found = Candidate("It rains. It pours.", 0.3, 7, searched=searched)
    kept = CandidateSet(2, 1, "v0001", "plan", 5, 0.5, (found,))
    with store.write() as conn:
        stored = candidates.put(conn, kept, now=1.0)
    assert stored == kept
    assert stored.candidates[0].searched == searched


def test_every_score_and_every_reason_comes_back(store: Store) -> None:
    scored = Candidate(
        "It rains.",
        0.3,
        7,
        "p",
        -1.0,
        sentence_logprobs=(-2.5, -0.5),
        i2c=0.25,
        pmi=1.5,
        blind=Blind.GREY,
        relevance=27.5,
        sentence_relevances=(25.0, 30.0),
        rank=0.75,
    )
    kept = CandidateSet(2, 1, "v0001", "plan", 5, 0.5, (scored,), {"loop": 2, "repeated": 3})
    with store.write() as conn:
        assert candidates.put(conn, kept, now=1.0) == kept


def test_preferences_come_back_with_their_feedback(store: Store) -> None:
    annotation = read_annotation(2, json.loads(STORED.read_text()))
    with store.write() as conn:
        judgements.put(conn, annotation, now=1.0)
    with store.read() as conn:
        found = judgements.preferences_in(conn, 2)
    assert sorted(found, key=key_of) == sorted(preferences_of(annotation), key=key_of)
    assert any(each.critique for each in found)
    assert any(each.helpful == 4 and each.original and each.refinement for each in found)


def test_pushed_sets_are_not_pushed_again(store: Store) -> None:
    with store.write() as conn:
        for task_id in (1, 2, 3):
            candidates.put(conn, candidate_set(task_id, "x"), now=1.0)
        candidates.mark_pushed(conn, 2, [2], version="v0001", plan="plan", now=2.0)
        left = candidates.unpushed(conn, 2, version="v0001", plan="plan", limit=10)
        assert [one.task_id for one in left] == [1, 3]
        assert candidates.count(conn, 2, version="v0001", plan="plan") == (3, 1)


def test_a_problem_is_tried_again_later_and_later_and_forgotten_on_success(store: Store) -> None:
    with store.write() as conn:
        waits = []
        for _ in range(3):
            candidates.note_problem(conn, 2, 1, version="v0001", problem="no picture", now=100.0)
            ((_, (reason, retry_at)),) = candidates.problems(conn, 2, version="v0001").items()
            waits.append(retry_at - 100.0)
        assert reason == "no picture"
        assert waits == [30.0, 60.0, 120.0]
        candidates.put(conn, candidate_set(1, "x"), now=200.0)
        assert candidates.problems(conn, 2, version="v0001") == {}


def test_a_later_configuration_wins_whatever_arrives_last(store: Store) -> None:
    connect(store)
    with store.write() as conn:
        for minute, text in ((5, "<View>new</View>"), (3, "<View>old</View>")):
            body = {
                "action": "PROJECT_UPDATED",
                "project": {"id": 2, "label_config": text, "updated_at": f"2026-11-22T00:{minute:02d}:00Z"},
            }
            events.append(conn, body, now=1.0)
            events.apply_pending(conn, now=1.0)
        assert projects.get(conn, 2).label_config == "<View>new</View>"


def test_going_back_passes_over_retired_versions(store: Store) -> None:
    connect(store)
    with store.write() as conn:
        for version in ("v0001", "v0002", "v0003"):
            versions.switch(conn, 2, version, reason="run", now=1.0)
        versions.retire(conn, 2, "v0002", who="ann", reason="wrong data", now=2.0)
        assert versions.previous_version(conn, 2) == "v0001"
        versions.switch(conn, 2, "v0001", reason="back", now=3.0)
        assert versions.previous_version(conn, 2) == "v0000"


@pytest.mark.parametrize("version", ["v0001", "v0000"])
def test_what_serves_and_the_base_model_are_not_retired(store: Store, version: str) -> None:
    connect(store)
    with store.write() as conn:
        versions.switch(conn, 2, "v0001", reason="run", now=1.0)
        with pytest.raises(ConflictError, match=version):
            versions.retire(conn, 2, version, who="ann", reason="x", now=2.0)


def test_a_retired_version_does_not_come_to_serve_until_it_is_reinstated(store: Store) -> None:
    connect(store)
    with store.write() as conn:
        first = versions.retire(conn, 2, "v0001", who="ann", reason="wrong data", now=2.0)
        assert versions.retire(conn, 2, "v0001", who="bob", reason="again", now=3.0) == first
        with pytest.raises(ConflictError, match="ann retired it: wrong data"):
            versions.switch(conn, 2, "v0001", reason="x", now=4.0)
        assert versions.reinstate(conn, 2, "v0001")
        assert not versions.reinstate(conn, 2, "v0001")
        assert versions.switch(conn, 2, "v0001", reason="x", now=5.0) == "v0000"


def learn(store: Store, run_id: int) -> None:
    """As a run does: keep every annotation of project 2 as it is now; task 3 is held out."""
    with store.write() as conn:
        held: dict[int, list[Preference]] = {}
        for each in judgements.preferences_in(conn, 2):
            held.setdefault(each.annotation_id, []).append(each)
        digests = judgements.digests(conn, 2)
        sources = [
            Source(i, some[0].task_id, some[0].annotator, digests[i], said(some), some[0].task_id == 3)
            for i, some in held.items()
        ]
        lineage.keep(conn, run_id, 2, sources)


def receive(store: Store, *bodies: dict[str, Any]) -> None:
    with store.write() as conn:
        for body in bodies:
            events.append(conn, strip_secrets(body), now=1.0)
        events.apply_pending(conn, now=1.0)


def test_what_became_of_the_annotations_a_run_learnt_from(store: Store) -> None:
    connect(store)
    annotated_tasks = [(10 + task_id, task_id) for task_id in range(1, 7)]
    receive(store, *(annotated(i, 0, ["c1"], task_id=task_id) for i, task_id in annotated_tasks))
    learn(store, 1)
    with store.read() as conn:
        assert lineage.departed(conn, 2) == {}
    receive(
        store,
        annotated(11, 5, ["c2"]),  # says something else
        annotated(12, 5, ["c1"], task_id=2, lead_time=99.0),  # newer, and says the same
        annotated(13, 5, ["c3"], task_id=3),  # of a held-out task
    )
    with store.write() as conn:
        judgements.delete(conn, 2, 14)
        judgements.delete_of_task(conn, 2, 5)
    learn_again = {11: Change.CHANGED, 14: Change.DELETED, 15: Change.DELETED}
    with store.read() as conn:
        assert lineage.departed(conn, 2) == {1: learn_again}
        assert lineage.departed(conn, 3) == {}
    learn(store, 2)
    with store.read() as conn:
        assert lineage.departed(conn, 2) == {1: learn_again}, "the second run learnt from what there is"
        assert set(lineage.runs_with(conn, 2, 11)) == {1, 2}
        assert set(lineage.runs_with(conn, 2, 14)) == {1}
        assert [source.annotation_id for source in lineage.of_run(conn, 2)] == [11, 12, 13, 16]
    receive(store, annotated(11, 9, ["c1"]))
    with store.read() as conn:
        assert lineage.departed(conn, 2) == {
            1: {14: Change.DELETED, 15: Change.DELETED},
            2: {11: Change.CHANGED},
        }, "said again what the first run learnt"
