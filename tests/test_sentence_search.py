"""The search over sentences by hand: what is ranked with what, what stays open, what is found."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from illume_plugin.generation.plan import SentenceSearch
from illume_plugin.generation.sentence_search import Found, Node, Path, Sentence, Step, search, sided
from illume_plugin.types import Side

Told = dict[tuple[int, ...], list[tuple[int, float, bool]]]
LONGEST = 100


def text(tokens: Sequence[int]) -> str:
    return "-".join(map(str, tokens))


class Scripted:
    """Says behind each path what the script says; a sentence is one token, its log-probability, its end."""

    def __init__(self, *scripts: Told) -> None:
        self.scripts = scripts
        self.asked: list[list[tuple[int, tuple[int, ...], int]]] = []

    def draws(self, tree: int, said: tuple[int, ...]) -> list[tuple[float, int]]:
        return [(0.5, 1000 * tree + i) for i in range(len(self.scripts[tree][said]))]

    def extend(self, steps: Sequence[Step]) -> list[list[Sentence | None]]:
        self.asked.append([(step.tree, step.said, step.limit) for step in steps])
        return [
            [
                None if token < 0 else Sentence((token,), str(token), logprob, ended)
                for token, logprob, ended in self.scripts[step.tree][step.said]
            ]
            for step in steps
        ]


def nothing_known(told: Sequence[tuple[int, str]]) -> list[float | None]:
    return [None] * len(told)


def run(
    script: Scripted, how: SentenceSearch, judge: object = nothing_known, longest: int = LONGEST
) -> list[Found]:
    return search(
        len(script.scripts),
        how,
        longest=longest,
        draws=script.draws,
        extend=script.extend,
        judge=judge,  # type: ignore[arg-type]
    )


def told(found: Found) -> list[tuple[tuple[int, ...], float, Side | None]]:
    return [(path.said, round(path.rank, 6), side) for path, side in found.paths]


TWO_LEVELS: Told = {
    (): [(1, -1.0, False), (2, -2.0, True), (3, -3.0, False), (4, -4.0, False), (5, -5.0, False)],
    (1,): [(6, -9.0, True), (7, -1.0, True), (8, -5.0, True)],
    (4,): [(6, -1.0, True), (7, -2.0, True)],
    (5,): [(6, -1.0, True)],
}


def test_ranks_are_among_siblings_and_a_path_has_their_mean() -> None:
    """At the root 1, .75, .5, .25, 0; behind 1: 0, 1, .5; behind 4: 1, 0; behind 5, an only child: .5."""
    script = Scripted(TWO_LEVELS)
    (found,) = run(script, SentenceSearch(best=1, worst=2))
    assert told(found) == [
        ((1, 7), 1.0, Side.BEST),
        ((2,), 0.75, None),  # one sentence: divided by one, not by one and the root
        ((1, 8), 0.75, None),
        ((4, 6), 0.625, None),
        ((1, 6), 0.5, None),
        ((5, 6), 0.25, Side.WORST),
        ((4, 7), 0.125, Side.WORST),
    ]
    assert [[said for _, said, _ in step] for step in script.asked] == [[()], [(1,), (4,), (5,)]]


def test_what_is_neither_best_nor_worst_is_not_gone_on_from() -> None:
    script = Scripted(TWO_LEVELS)
    (found,) = run(script, SentenceSearch(best=1, worst=0))
    assert [said for said, _, _ in told(found)] == [(1, 7), (2,), (1, 8), (1, 6)]
    assert [side for _, _, side in told(found)] == [Side.BEST, None, None, None]


def test_with_an_encoder_ranks_are_weighed() -> None:
    """Behind the root, likelihood ranks 1, 0 and relevance ranks 0, 1: 0.1 and 0.9 with CSR's lambda."""
    script = Scripted({(): [(1, -1.0, True), (2, -2.0, True)]})
    (found,) = run(script, SentenceSearch(), lambda some: [{"1": 10.0, "2": 20.0}[t] for _, t in some])
    assert told(found) == [((2,), 0.9, Side.BEST), ((1,), 0.1, Side.WORST)]
    report = found.paths[0][0].report(Side.BEST)
    assert (report.rank, report.ranks, report.logprobs) == (
        pytest.approx(0.9),
        (pytest.approx(0.9),),
        (-2.0,),
    )
    assert (report.relevances, report.side) == ((20.0,), Side.BEST)


def test_without_one_the_likelihood_ranks_alone_and_the_report_says_so() -> None:
    (found,) = run(Scripted({(): [(1, -1.0, True), (2, -2.0, True)]}), SentenceSearch())
    assert told(found) == [((1,), 1.0, Side.BEST), ((2,), 0.0, Side.WORST)]
    assert found.paths[0][0].report(None).relevances == ()


@pytest.mark.parametrize("odd", [math.nan, math.inf, None])
def test_a_relevance_that_is_no_number_ranks_last(odd: float | None) -> None:
    script = Scripted({(): [(1, -1.0, True), (2, -2.0, True)]})
    judged = {"1": odd, "2": 1.0}
    (found,) = run(script, SentenceSearch(relevance_weight=1.0), lambda some: [judged[t] for _, t in some])
    assert told(found) == [((2,), 1.0, Side.BEST), ((1,), 0.0, Side.WORST)]
    assert found.paths[1][0].report(None).relevances == ()


def test_a_sentence_drawn_twice_is_one_sibling() -> None:
    script = Scripted(
        {(): [(1, -1.0, True), (1, -1.0, True), (2, -2.0, True), (1, -1.5, False)], (1,): [(-1, 0, True)]}
    )
    (found,) = run(script, SentenceSearch())
    # (1, ended), (1, going on) and 2: ranks 1, .5, 0
    assert told(found) == [((1,), 1.0, Side.BEST), ((2,), 0.0, Side.WORST)]
    assert (found.paths[0][0].nodes[0].seed, found.unfinished) == (0, 1)


def test_sentences_without_an_end_are_counted_and_are_nobodys_siblings() -> None:
    script = Scripted({(): [(-1, 0.0, True), (1, -1.0, True), (-1, 0.0, True)]})
    (found,) = run(script, SentenceSearch())
    assert (told(found), found.unfinished) == ([((1,), 0.5, Side.BEST)], 2)


def test_nothing_at_all() -> None:
    (found,) = run(Scripted({(): [(-1, 0.0, True)]}), SentenceSearch())
    assert (found.paths, found.unfinished) == ([], 1)
    assert search(0, SentenceSearch(), longest=9, draws=None, extend=None, judge=None) == []  # type: ignore[arg-type]


def test_limits_of_a_sentence_and_of_a_rationale() -> None:
    endless: Told = {(1,) * count: [(1, -1.0, False)] for count in range(9)}
    script = Scripted(endless)
    (found,) = run(script, SentenceSearch(sentence_tokens=3, max_sentences=50), longest=5)
    assert [limit for ((_, _, limit),) in script.asked] == [3, 3, 3, 2, 1]
    assert (found.paths, found.unfinished) == ([], 1)
    (taken,) = run(Scripted(endless), SentenceSearch(max_sentences=2))
    assert (told(taken), taken.unfinished) == ([((1, 1), 0.5, Side.BEST)], 0)


@pytest.mark.parametrize(
    ("ranks", "best", "worst", "sides"),
    [
        ([0.5], 1, 2, "b"),
        ([0.9, 0.1], 1, 2, "bw"),
        ([0.9, 0.5, 0.1], 1, 2, "bww"),
        ([0.9, 0.5, 0.4, 0.1], 1, 2, "b-ww"),
        ([0.9, 0.5, 0.4, 0.1], 3, 3, "bbbw"),
        ([0.9, 0.5, 0.1], 1, 0, "b--"),
        ([], 1, 2, ""),
    ],
)
def test_sides(ranks: list[float], best: int, worst: int, sides: str) -> None:
    paths = [Path((Node(Sentence((i,), "", 0.0, True), rank, None, 0.5, 0),)) for i, rank in enumerate(ranks)]
    found = sided(paths[::-1], SentenceSearch(best=best, worst=worst))
    assert [path for path, _ in found] == paths
    assert [side for _, side in found] == [{"b": Side.BEST, "w": Side.WORST, "-": None}[s] for s in sides]


def world(seed: int) -> Scripted:
    """Trees in which anything may follow anything, decided by what was said and by nothing else."""

    class Whole(dict[tuple[int, ...], list[tuple[int, float, bool]]]):
        def __missing__(self, said: tuple[int, ...]) -> list[tuple[int, float, bool]]:
            chance = random.Random(f"{seed} {said}")
            return [
                (chance.randint(-1, 6), round(-5 * chance.random(), 1), chance.random() < 0.3)
                for _ in range(4)
            ]

    return Scripted(Whole())


@given(st.lists(st.integers(0, 50), min_size=1, max_size=5), st.integers(1, 2), st.integers(0, 2))
def test_a_tree_gives_the_same_whatever_is_searched_beside_it(
    seeds: list[int], best: int, worst: int
) -> None:
    how = SentenceSearch(best=best, worst=worst)
    together = run(Scripted(*(world(seed).scripts[0] for seed in seeds)), how)
    for seed, found in zip(seeds, together, strict=True):
        (alone,) = run(world(seed), how)
        assert told(found) == told(alone)
        assert found.unfinished == alone.unfinished


@given(st.integers(0, 1000), st.integers(1, 3), st.integers(0, 3), st.integers(1, 4))
def test_what_is_always_so(seed: int, best: int, worst: int, most: int) -> None:
    script = world(seed)
    (found,) = run(script, SentenceSearch(best=best, worst=worst, max_sentences=most))
    assert len(script.asked) <= most
    assert all(len(steps) <= best + worst for steps in script.asked)
    ranks = [path.rank for path, _ in found.paths]
    assert ranks == sorted(ranks, reverse=True)
    assert all(0 <= rank <= 1 for rank in ranks)
    for path, _ in found.paths:
        assert path.nodes[-1].sentence.ended or len(path.nodes) == most
        assert not any(node.sentence.ended for node in path.nodes[:-1])
    sides = [side for _, side in found.paths]
    assert sides.count(Side.BEST) == min(best, len(sides))
    assert sides.count(Side.WORST) == min(worst, max(0, len(sides) - best))
