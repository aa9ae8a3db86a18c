"""Training sets: who is held out, what is accepted, what fills up, and the hash over it."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from illume_plugin.dataset import build_training_set, content_of, is_held_out, refuse
from illume_plugin.errors import RunError
from illume_plugin.examples import ObjectiveName
from illume_plugin.pairs import PairRules
from illume_plugin.types import (
    Candidate,
    CandidateSet,
    JudgedTask,
    Origin,
    Preference,
    Task,
    TrainingRow,
    TrainingSet,
    Verdict,
)

F, U = Verdict.FITS, Verdict.UNFIT


def task(task_id: int, project_id: int = 1) -> Task:
    return Task(project_id, task_id, f"/data/{task_id}.png", "What is it?", "a dog")


def vote(
    task_id: int, text: str, verdict: Verdict = F, annotation_id: int = 1, project_id: int = 1
) -> Preference:
    return Preference(project_id, task_id, annotation_id, 7, text, verdict, Origin.CANDIDATE, 1, "v0001")


# of tasks 0 to 39 these are held out; see the pinned table below
HELD_OUT = [k for k in range(40) if is_held_out(task(k))]
TRAINING = [k for k in range(40) if not is_held_out(task(k))]


@pytest.mark.parametrize(
    ("image", "question", "answer", "share"),
    [
        ("/data/upload/2/b81e7ce0-u0.png", "What is the weather like?", "rainy", 0.455747),
        ("s3://bkt/imgs/s0.png", "How many dogs?", "2", 0.861778),
        ("/a.png", "Où est-il ?", "ici", 0.413061),
        ("", "", "", 0.475042),
    ],
)
def test_held_out_is_pinned_for_ever(image: str, question: str, answer: str, share: float) -> None:
    # share: the first 64 bits of sha256 of ["image","question","answer"] as canonical JSON, over 2**64.
    # A task that moves from held-out to training would be evaluated on what it was trained on.
    it = Task(1, 1, image, question, answer)
    assert not is_held_out(it, share - 1e-6)
    assert is_held_out(it, share + 1e-6)


def test_held_out_depends_on_content_only() -> None:
    assert all(
        is_held_out(replace(task(k), project_id=9, task_id=99)) == is_held_out(task(k)) for k in range(40)
    )


@given(st.integers(0, 10**6), st.floats(0, 1), st.floats(0, 1))
def test_a_greater_fraction_keeps_what_a_smaller_one_held_out(k: int, one: float, other: float) -> None:
    small, great = sorted([one, other])
    assert is_held_out(task(k), great) or not is_held_out(task(k), small)


@pytest.mark.parametrize("fraction", [0.0, 0.2, 0.5, 1.0])
def test_the_fraction_is_kept(fraction: float) -> None:
    held_out = sum(is_held_out(task(k), fraction) for k in range(2000))
    # 2000 fixed draws: at most 3 standard deviations (0.034) off
    assert held_out / 2000 == pytest.approx(fraction, abs=0.034)


a, b, c = TRAINING[:3]
h = HELD_OUT[0]


@pytest.mark.parametrize(
    ("votes", "rationales"),
    [
        ([], []),
        ([vote(a, "x")], [("x", 1.0)]),
        ([vote(a, "x"), vote(a, "x")], [("x", 1.0)]),
        ([vote(a, "x", U)], []),
        ([vote(a, "x"), vote(a, "x"), vote(a, "x", U, 2)], []),
        ([vote(a, "x"), vote(a, "x", U, 2)], []),
        ([vote(a, "x"), vote(a, "x", F, 2), vote(a, "x", U, 3)], [("x", pytest.approx(2 / 3))]),
        ([vote(a, "x"), vote(a, "y"), vote(a, "z", U)], [("x", 1.0), ("y", 1.0)]),
        (
            [vote(a, "It rains."), vote(a, "it rains", F, 2), vote(a, "it rains", U, 3)],
            [("it rains", pytest.approx(2 / 3))],
        ),
        ([vote(a, "It rains."), vote(a, "it rains", F, 2)], [("It rains.", 1.0)]),
        ([vote(h, "x")], []),
        ([vote(99, "x")], []),
        ([vote(a, "x", project_id=2)], []),
    ],
)
def test_accepted(votes: list[Preference], rationales: list[tuple[str, Any]]) -> None:
    training_set = build_training_set(1, [task(a), task(h)], votes)
    accepted = [(row.rationale, row.weight) for row in training_set.rows if row.rationale is not None]
    assert accepted == rationales
    assert training_set.accepted == len(rationales)


def test_a_training_set_in_full() -> None:
    votes = [vote(a, "it barks"), vote(b, "it flies", U), vote(h, "it barks"), vote(h, "it flies", U, 2)]
    it = build_training_set(1, [task(h), task(b), task(a)], votes)
    assert it.rows == (
        TrainingRow(a, f"/data/{a}.png", "What is it?", "a dog", "it barks", 1.0),
        TrainingRow(b, f"/data/{b}.png", "What is it?", "a dog", None, 1.0),
    )
    assert it.held_out == (
        JudgedTask(h, f"/data/{h}.png", "What is it?", "a dog", ("it barks",), ("it flies",)),
    )
    assert it.project_id == 1


def test_of_two_states_of_a_task_the_choice_does_not_depend_on_order() -> None:
    states = [task(a), replace(task(a), answer="a cat")]
    one, other = (build_training_set(1, each, [vote(a, "x")]) for each in (states, states[::-1]))
    assert one == other


def test_held_out_tasks_nobody_agrees_on_are_there_without_texts() -> None:
    it = build_training_set(1, [task(h)], [vote(h, "x"), vote(h, "x", U, 2)])
    assert it.held_out == (JudgedTask(h, f"/data/{h}.png", "What is it?", "a dog"),)


@pytest.mark.parametrize(
    ("accepted", "ratio", "answer_only"),
    [(0, 10, 0), (1, 0, 0), (1, 2, 2), (2, 3, 6), (1, 1.5, 1), (3, 10, len(TRAINING) - 3)],
)
def test_answer_only_rows(accepted: int, ratio: float, answer_only: int) -> None:
    votes = [vote(k, "x") for k in TRAINING[:accepted]]
    it = build_training_set(1, [task(k) for k in range(40)], votes, answer_only_ratio=ratio)
    rows = [row for row in it.rows if row.rationale is None]
    assert len(rows) == answer_only
    assert {row.task_id for row in rows} <= set(TRAINING[accepted:])
    assert len({row.task_id for row in rows}) == len(rows)


def test_the_seed_chooses_the_answer_only_rows() -> None:
    tasks, votes = [task(k) for k in range(40)], [vote(a, "x")]
    drawn = [build_training_set(1, tasks, votes, answer_only_ratio=3, seed=seed) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1]
    assert drawn[0].rows != drawn[2].rows
    assert drawn[0].content_hash != drawn[2].content_hash


TASKS = st.lists(st.builds(task, st.integers(0, 15), st.integers(1, 2)), max_size=20)
VOTES = st.lists(
    st.builds(
        vote,
        st.integers(0, 15),
        st.sampled_from(["x", "X.", "y", "z"]),
        st.sampled_from([F, U]),
        st.integers(1, 4),
        st.integers(1, 2),
    ),
    max_size=30,
)


@settings(deadline=None)
@given(TASKS, VOTES, st.floats(0, 1), st.randoms(use_true_random=False))
def test_order_and_repetition_do_not_matter(
    tasks: list[Task], votes: list[Preference], fraction: float, random: Any
) -> None:
    one = build_training_set(1, tasks, votes, held_out_fraction=fraction, answer_only_ratio=1)
    tasks, votes = tasks + tasks[:3], votes + votes[:3]
    random.shuffle(tasks)
    random.shuffle(votes)
    assert build_training_set(1, tasks, votes, held_out_fraction=fraction, answer_only_ratio=1) == one


@settings(deadline=None)
@given(TASKS, VOTES, st.floats(0, 1))
def test_no_held_out_task_trains(tasks: list[Task], votes: list[Preference], fraction: float) -> None:
    it = build_training_set(1, tasks, votes, held_out_fraction=fraction)
    held_out = {(each.image, each.question, each.answer) for each in it.held_out}
    assert held_out.isdisjoint({(row.image, row.question, row.answer) for row in it.rows})
    mine = {each.task_id for each in tasks if each.project_id == 1}
    assert {each.task_id for each in it.held_out} | {row.task_id for row in it.rows} <= mine
    assert {each.task_id for each in it.held_out} == {k for k in mine if is_held_out(task(k), fraction)}


@settings(deadline=None)
@given(TASKS, VOTES)
def test_rows_are_unique_and_weighted(tasks: list[Task], votes: list[Preference]) -> None:
    it = build_training_set(1, tasks, votes)
    keys = [(row.task_id, row.rationale and row.rationale.casefold().rstrip(".")) for row in it.rows]
    assert len(set(keys)) == len(keys)
    assert all(0.5 < row.weight <= 1.0 for row in it.rows)


def test_the_hash_tells_sets_apart() -> None:
    tasks = [task(k) for k in range(40)]
    sets = [
        build_training_set(1, tasks, []),
        build_training_set(1, [each for each in tasks if each.task_id != h], []),
        build_training_set(1, tasks, [vote(a, "x")]),
        build_training_set(1, tasks, [vote(a, "y")]),
        build_training_set(1, tasks, [vote(h, "x")]),
        build_training_set(1, tasks, [vote(h, "x", U)]),
        build_training_set(1, tasks, [vote(a, "x"), vote(a, "x", F, 2), vote(a, "x", U, 3)]),
    ]
    assert len({it.content_hash for it in sets}) == len(sets)
    assert all(len(it.content_hash) == 64 for it in sets)


def test_the_hash_is_pinned() -> None:
    # sha256 of {"held_out":[],"rows":[]}
    empty = "175a91f503f6942feade5862574d3c92457f8c50eccde45bd6eb8a513623e003"
    assert build_training_set(1, [], []) == TrainingSet(1, (), (), empty)


def test_refuse_says_what_is_missing() -> None:
    empty = build_training_set(1, [task(a), task(h), task(HELD_OUT[1])], [vote(a, "x", U), vote(h, "x")])
    with pytest.raises(RunError) as refused:
        refuse(empty)
    assert "0 accepted rationales" in refused.value.what
    assert "2 held-out tasks 1 are judged" in refused.value.why
    assert "Tick more" in refused.value.todo


@pytest.mark.parametrize(("minimum", "refused"), [(1, False), (2, False), (3, True)])
def test_the_minimum(minimum: int, refused: bool) -> None:
    it = build_training_set(1, [task(a), task(b)], [vote(a, "x"), vote(b, "y")])
    if refused:
        with pytest.raises(RunError, match="needs 3"):
            refuse(it, minimum_accepted=minimum)
    else:
        refuse(it, minimum_accepted=minimum)


# -- records of the other objectives ---------------------------------------------------------------------

ALL = tuple(ObjectiveName)


def candidates(task_id: int) -> CandidateSet:
    drawn = [Candidate(text, 0.6, 0, i2c=k / 10, rank=k / 3) for k, text in enumerate("xyzw")]
    return CandidateSet(1, task_id, "v0001", "plan", 0, 0.5, (Candidate("anchor", 0.01, 0), *drawn))


def test_without_other_objectives_a_set_is_what_it_was() -> None:
    tasks, votes = [task(k) for k in range(40)], [vote(a, "x"), vote(a, "y", U)]
    sets = [candidates(k) for k in range(40)]
    plain = build_training_set(1, tasks, votes, candidate_sets=sets)
    assert (plain.pairs, plain.labels, plain.feedback, plain.contrast) == ((), (), (), ())
    assert set(content_of(plain)) == {"rows", "held_out"}
    full = build_training_set(1, tasks, votes, candidate_sets=sets, objectives=ALL)
    assert (full.rows, full.held_out) == (plain.rows, plain.held_out)
    assert full.content_hash != plain.content_hash
    assert set(content_of(full)) == {"rows", "held_out", "pairs", "labels", "feedback", "contrast"}


@pytest.mark.parametrize(
    ("objective", "records"),
    [
        (ObjectiveName.ILLUME, None),
        (ObjectiveName.DPO, "pairs"),
        (ObjectiveName.KTO, "labels"),
        (ObjectiveName.DRESS, "feedback"),
        (ObjectiveName.CONTRAST, "contrast"),
    ],
)
def test_each_objective_has_its_records(objective: ObjectiveName, records: str | None) -> None:
    votes = [vote(a, "y"), vote(a, "z", U)]
    it = build_training_set(1, [task(a)], votes, candidate_sets=[candidates(a)], objectives=[objective])
    filled = [name for name in ("pairs", "labels", "feedback", "contrast") if getattr(it, name)]
    assert filled == ([records] if records else [])


def test_labels_say_what_is_in_a_pair() -> None:
    votes = [vote(a, "x"), vote(a, "y", U), vote(b, "x")]
    for objectives, paired in (([ObjectiveName.KTO], [0, 0, 0]), (ALL, [1, 1, 0])):
        it = build_training_set(1, [task(a), task(b)], votes, objectives=objectives)
        assert [label.paired for label in it.labels] == paired


@settings(deadline=None)
@given(TASKS, VOTES, st.floats(0, 1), st.randoms(use_true_random=False))
def test_no_held_out_task_is_in_any_record(
    tasks: list[Task], votes: list[Preference], fraction: float, random: Any
) -> None:
    sets = [candidates(k) for k in range(16)]
    negatives = {k: ["wrong"] for k in range(16)}
    options: dict[str, Any] = {
        "held_out_fraction": fraction,
        "negatives": negatives,
        "objectives": ALL,
        "rules": PairRules(gate_minimum=1, agreement_gate=0.0),
    }
    it = build_training_set(1, tasks, votes, candidate_sets=sets, **options)
    held_out = {(each.image, each.question, each.answer) for each in it.held_out}
    training = [record for record in it.records if record not in it.held_out]
    assert held_out.isdisjoint({(each.image, each.question, each.answer) for each in training})
    assert {each.task_id for each in training} <= {each.task_id for each in tasks if each.project_id == 1}
    for shuffled in (tasks, votes, sets):
        random.shuffle(shuffled)
    assert build_training_set(1, tasks, votes, candidate_sets=sets, **options) == it
