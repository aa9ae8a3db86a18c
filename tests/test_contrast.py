"""What is contrasted: anchors, ticks, and content relevance where nobody has judged."""

from __future__ import annotations

from typing import Any

import pytest

from illume_plugin.contrast import build_contrast
from illume_plugin.examples import ContrastExample
from illume_plugin.types import Candidate, CandidateSet, Origin, Preference, Task, Verdict

F, U = Verdict.FITS, Verdict.UNFIT


def task(task_id: int) -> Task:
    return Task(1, task_id, f"/{task_id}.png", "What is it?", "a dog")


def said(text: str, verdict: Verdict, task_id: int = 1) -> Preference:
    return Preference(1, task_id, 1, 7, text, verdict, Origin.CANDIDATE, 1, "v0001")


def drawn(
    text: str, temperature: float = 0.6, i2c: float | None = None, logprob: float | None = None
) -> Candidate:
    return Candidate(text, temperature, 0, i2c=i2c, logprob_mean=logprob)


def sampled(task_id: int, *candidates: Candidate, version: str = "v0001") -> CandidateSet:
    return CandidateSet(1, task_id, version, "plan", 0, 0.5, candidates)


COOL = drawn("cool", 0.01)


@pytest.mark.parametrize(
    ("preferences", "sides"),
    [
        ([said("x", F), said("y", U)], (("x",), ("y",))),
        ([said("z", F), said("x", F), said("y", U), said("cool", F)], (("x", "z"), ("y",))),
        ([said("Cool.", F), said("y", U)], None),
        ([said("x", F)], None),
        ([said("x", U)], None),
    ],
)
def test_ticks_decide(preferences: list[Preference], sides: Any) -> None:
    found = build_contrast([task(1)], preferences, [sampled(1, drawn("warm"), COOL)])
    assert [(each.anchor, each.positives, each.negatives, each.pseudo) for each in found] == (
        [("cool", *sides, False)] if sides else []
    )


@pytest.mark.parametrize(
    ("candidates", "anchor"),
    [
        ([drawn("warm"), COOL], "cool"),
        ([drawn("b", 0.1, logprob=-1.0), drawn("a", 0.1, logprob=-2.0)], "b"),
        ([drawn("b", 0.1), drawn("a", 0.1, logprob=-2.0)], "a"),
        ([drawn("b", 0.1), drawn("a", 0.1)], "a"),
    ],
)
def test_the_anchor_is_nearest_to_greedy(candidates: list[Candidate], anchor: str) -> None:
    (found,) = build_contrast([task(1)], [said("x", F), said("y", U)], [sampled(1, *candidates)])
    assert found.anchor == anchor


def test_the_newest_version_gives_the_anchor() -> None:
    sets = [sampled(1, drawn("new"), version="v0002"), sampled(1, drawn("old"), version="v0001")]
    for each in (sets, sets[::-1]):
        (found,) = build_contrast([task(1)], [said("x", F), said("y", U)], each)
        assert found.anchor == "new"


def test_content_relevance_decides_by_its_place_in_the_pool() -> None:
    few = [
        sampled(1, drawn("low", i2c=0.01), drawn("mid", i2c=0.02), drawn("high", i2c=0.03), COOL),
        sampled(2, drawn("unscored"), COOL),
    ]
    (found,) = build_contrast([task(1), task(2)], [], few)
    assert found == ContrastExample(
        1, "/1.png", "What is it?", "a dog", "cool", ("high",), ("low",), pseudo=True
    )


def test_the_scale_of_content_relevance_does_not_count() -> None:
    def at(scale: float) -> CandidateSet:
        return sampled(1, *(drawn(str(n), i2c=scale * n) for n in range(10)), COOL)

    one, other = (build_contrast([task(1)], [], [at(scale)]) for scale in (1e-4, 1e4))
    assert one == other
    assert one[0].positives == ("7", "8", "9")
    assert one[0].negatives == ("0", "1", "2")


def test_pseudo_labels_can_be_left_out() -> None:
    sets = [sampled(1, drawn("low", i2c=0.1), drawn("mid", i2c=0.2), drawn("high", i2c=0.3), COOL)]
    assert build_contrast([task(1)], [], sets, pseudo_labels=False) == ()
    assert build_contrast([task(1)], [said("x", F)], sets) == ()  # judged: ticks alone decide


def test_other_tasks_and_tasks_without_candidates_are_left_out() -> None:
    preferences = [said("x", F), said("y", U)]
    assert build_contrast([task(2)], preferences, [sampled(1, COOL)]) == ()
    assert build_contrast([task(1)], preferences, [sampled(1)]) == ()
    assert build_contrast([task(1)], preferences, []) == ()
