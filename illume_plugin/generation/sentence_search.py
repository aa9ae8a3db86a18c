"""CSR's search over sentences (arXiv 2405.14622): going on from the best and from the worst. Pure, no torch.

The root of a tree is a prompt; a node is a sentence. Behind each open path several next sentences are drawn
and ranked among each other (`calibrated_ranks`: the model's own likelihood R_T and, where there is an
image-text encoder, the relevance to the picture R_I). A path's reward is the mean rank of its sentences. Of
the paths that go on, those of highest and those of lowest reward stay open; those that have ended are found.
All trees take their steps together, so that one batch draws the sentences of all their paths.

CSR's code divides by the number of nodes, the root among them, which favours short answers; we divide by
the number of sentences. It draws in beam groups that are kept apart by a penalty; we draw each sentence by
itself, at the plan's temperatures, and take equal ones for one. Its result is the paths that were kept; ours
is every rationale that ended on the way: people choose from them, and the ends of the list are CSR's best and
worst.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from math import isfinite

from illume_plugin.generation.plan import SentenceSearch
from illume_plugin.selection import calibrated_ranks, path_rank
from illume_plugin.types import Searched, Side


@dataclass(frozen=True, slots=True)
class Sentence:
    """A drawn sentence.

    Attributes:
        tokens: without an end token.
        logprob: log-probability in nats, that of an end token with it.
        ended: whether the rationale ends with it.
    """

    tokens: tuple[int, ...]
    text: str
    logprob: float
    ended: bool


@dataclass(frozen=True, slots=True)
class Step:
    """Next sentences to be drawn behind one path.

    Attributes:
        tree: index of its tree.
        said: tokens of the path.
        draws: temperature and seed of each.
        limit: tokens by which a sentence must have ended, at least one.
    """

    tree: int
    said: tuple[int, ...]
    draws: Sequence[tuple[float, int]]
    limit: int


@dataclass(frozen=True, slots=True)
class Node:
    """A sentence in its place.

    Attributes:
        rank: calibrated rank among its siblings.
        relevance: to the picture; None where nothing tells.
        temperature, seed: of its draw.
    """

    sentence: Sentence
    rank: float
    relevance: float | None
    temperature: float
    seed: int


@dataclass(frozen=True, slots=True)
class Path:
    """Sentences one after the other."""

    nodes: tuple[Node, ...] = ()

    @property
    def said(self) -> tuple[int, ...]:
        """Its tokens."""
        return tuple(token for node in self.nodes for token in node.sentence.tokens)

    @property
    def rank(self) -> float:
        """Its reward, in [0, 1]."""
        return path_rank([node.rank for node in self.nodes])

    def report(self, side: Side | None) -> Searched:
        """What a candidate keeps of it."""
        relevances = [node.relevance for node in self.nodes]
        known = tuple(value for value in relevances if value is not None)
        return Searched(
            rank=self.rank,
            ranks=tuple(node.rank for node in self.nodes),
            logprobs=tuple(node.sentence.logprob for node in self.nodes),
            relevances=known if len(known) == len(relevances) else (),
            side=side,
        )


@dataclass
class Found:
    """What a search found in one tree.

    Attributes:
        paths: ended rationales, the best first, each with its side.
        unfinished: sentences that did not end in time.
    """

    paths: list[tuple[Path, Side | None]] = field(default_factory=list)
    unfinished: int = 0


#: Draws the sentences of all steps at once; None: it did not end in time. Steps come in the order of trees.
Extend = Callable[[Sequence[Step]], list[list[Sentence | None]]]
#: Temperatures and seeds of the next sentences: tree, tokens of the path.
Draws = Callable[[int, tuple[int, ...]], Sequence[tuple[float, int]]]
#: Relevance of texts to the picture of their tree; None where nothing tells.
Judge = Callable[[Sequence[tuple[int, str]]], Sequence[float | None]]


def search(
    trees: int, how: SentenceSearch, *, longest: int, draws: Draws, extend: Extend, judge: Judge
) -> list[Found]:
    """Search every tree until none of its paths is open.

    What a tree gives depends on its own draws alone.

    Args:
        trees: how many.
        longest: tokens of a rationale at most, its end token among them.
    """
    found = [Found() for _ in range(trees)]
    open_paths = [[Path()] for _ in range(trees)]
    while steps := [
        (path, Step(tree, said, draws(tree, said), min(how.sentence_tokens, longest - len(said))))
        for tree, paths in enumerate(open_paths)
        for path in paths
        for said in [path.said]
    ]:
        open_paths = [[] for _ in range(trees)]
        drawn = extend([step for _, step in steps])
        for (_, step), some in zip(steps, drawn, strict=True):
            found[step.tree].unfinished += sum(each is None for each in some)
        for tree, path in _grown(steps, drawn, judge, how.relevance_weight):
            if path.nodes[-1].sentence.ended or len(path.nodes) == how.max_sentences:
                found[tree].paths.append((path, None))
            elif len(path.said) < longest:
                open_paths[tree].append(path)
            else:
                found[tree].unfinished += 1
        open_paths = [[path for path, side in sided(paths, how) if side] for paths in open_paths]
    for each in found:
        each.paths = sided([path for path, _ in each.paths], how)
    return found


def sided(paths: Sequence[Path], how: SentenceSearch) -> list[tuple[Path, Side | None]]:
    """The paths from best to worst, and which of them are at the ends.

    The `how.best` first ones are the best; of what is left, the `how.worst` last ones are the worst. Of equal
    reward the likelier path comes first.
    """
    ordered = sorted(paths, key=_best_first)
    worst_from = max(how.best, len(ordered) - how.worst)
    return [
        (path, Side.BEST if place < how.best else Side.WORST if place >= worst_from else None)
        for place, path in enumerate(ordered)
    ]


def _best_first(path: Path) -> tuple[float, float, tuple[int, ...]]:
    return -path.rank, -sum(node.sentence.logprob for node in path.nodes), path.said


def _grown(
    steps: Sequence[tuple[Path, Step]],
    drawn: Sequence[Sequence[Sentence | None]],
    judge: Judge,
    weight: float,
) -> Iterator[tuple[int, Path]]:
    """Every path with each of its next sentences, and its tree."""
    siblings = [_distinct(step, some) for (_, step), some in zip(steps, drawn, strict=True)]
    told = [
        (step.tree, one.text) for (_, step), some in zip(steps, siblings, strict=True) for one, _, _ in some
    ]
    known = iter([v if v is not None and isfinite(v) else None for v in judge(told)] if told else [])
    for (path, step), some in zip(steps, siblings, strict=True):
        relevances = list(islice(known, len(some)))
        ranks = calibrated_ranks([one.logprob for one, _, _ in some], relevances, weight=weight)
        for (one, temperature, seed), rank, relevance in zip(some, ranks, relevances, strict=True):
            yield step.tree, Path((*path.nodes, Node(one, rank, relevance, temperature, seed)))


def _distinct(step: Step, drawn: Sequence[Sentence | None]) -> list[tuple[Sentence, float, int]]:
    """The sentences that ended, with temperature and seed; one that was drawn twice is one sibling."""
    kept: dict[tuple[tuple[int, ...], bool], tuple[Sentence, float, int]] = {}
    for one, (temperature, seed) in zip(drawn, step.draws, strict=True):
        if one is not None:
            kept.setdefault((one.tokens, one.ended), (one, temperature, seed))
    return list(kept.values())
