"""Preference pairs from what people said, in falling order of trust, and single labelled rationales.

fit over unfit > best over other fits > two stars more > refined > edited > gated self-reward > negatives.
Two wordings of a task make one pair at most, in the direction of the source that is trusted most.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations, product

from illume_plugin.errors import SettingsError
from illume_plugin.examples import LabelledRationale, PairSource, PreferencePair
from illume_plugin.identity import content_bits, wording
from illume_plugin.self_reward import AGREEMENT_GATE, GATE_MINIMUM, Agreement, agreement, extremes
from illume_plugin.types import CandidateSet, Origin, Preference, Task
from illume_plugin.votes import TaskVotes, Votes, count_votes

_TRUST = {source: place for place, source in enumerate(PairSource)}


@dataclass(frozen=True, slots=True)
class PairRules:
    """What makes a pair.

    Attributes:
        score_gap: stars by which the chosen must be ahead, where people gave stars to both.
        agreement_gate: share of judged automatic choices that must agree with people, else there are no
            automatic pairs.
        gate_minimum: judged automatic choices that the share must rest on.
        negative_share: share of all pairs that may have a negative made to be wrong, at most.
        per_task: pairs of one task, at most, not counting negatives; the weights of a task's pairs add up to
            at most 1 anyway.
        automatic: no: tasks that nobody has judged give no pairs, whether the gate is open or not.
    """

    score_gap: float = 2.0
    agreement_gate: float = AGREEMENT_GATE
    gate_minimum: int = GATE_MINIMUM
    negative_share: float = 0.25
    per_task: int = 16
    automatic: bool = True

    def __post_init__(self) -> None:
        shares = 0 <= self.agreement_gate <= 1 and 0 <= self.negative_share < 1
        if not (shares and self.score_gap > 0 and self.per_task > 0 and self.gate_minimum > 0):
            raise SettingsError(
                f"{self} cannot be used.",
                todo="Give shares from 0 to 1 (negative_share below 1) and other numbers above 0.",
            )


def build_pairs(
    tasks: Iterable[Task],
    preferences: Iterable[Preference],
    *,
    candidate_sets: Sequence[CandidateSet] = (),
    negatives: Mapping[int, Collection[str]] | None = None,
    rules: PairRules | None = None,
    weigh_agreement: bool = True,
) -> tuple[PreferencePair, ...]:
    """Every pair that the preferences hold, whatever order the inputs come in.

    Args:
        tasks: those that may train; everything about other tasks is left out.
        preferences: of these tasks.
        candidate_sets: of the active adapter, for automatic pairs on tasks that nobody has judged: the best
            rank over the worst (CSR, arXiv 2405.14622). Judged ones decide whether the gate is open.
        negatives: task id -> texts made to be wrong, such as rationales drawn under a noised picture
            (POVID); an accepted rationale is preferred to each.
        weigh_agreement: no: a pair counts the same however narrow the majority.

    Returns:
        Pairs by task and trust. A pair's weight is the annotators' agreement, divided by the number of the
        task's pairs.
    """
    rules = rules or PairRules()
    by_id = {task.task_id: task for task in tasks}
    mine = [each for each in preferences if each.task_id in by_id]
    votes = count_votes(mine)
    pairs = _Pairs(by_id, weigh_agreement)
    for task_id, of_task in votes.items():
        pairs.add(task_id, _judged_pairs(of_task, rules.score_gap))
    for preference in sorted(set(mine), key=_by_annotation):
        pairs.add(preference.task_id, _remade_pairs(preference, votes[preference.task_id]))
    sets = [each for each in candidate_sets if each.task_id in by_id]
    measured = agreement(sets, votes)
    if rules.automatic and measured.passes(rules.agreement_gate, rules.gate_minimum):
        for each in sets:
            if each.task_id not in votes:
                pairs.add(each.task_id, _automatic_pair(each, measured))
    kept = pairs.capped(rules.per_task)
    made = _Pairs(by_id, weigh_agreement, known=kept)
    for task_id, texts in (negatives or {}).items():
        made.add(task_id, _negative_pairs(votes.get(task_id, {}), texts))
    room = math.floor(len(kept) * rules.negative_share / (1 - rules.negative_share))
    return _shared_weights([*kept, *made.few(room)])


def build_labels(
    tasks: Iterable[Task],
    preferences: Iterable[Preference],
    *,
    pairs: Iterable[PreferencePair] = (),
    weigh_agreement: bool = True,
) -> tuple[LabelledRationale, ...]:
    """Every rationale of which more people say that it fits than that it does not, or the other way round.

    Those on neither side of any of `pairs` are the ticks without a counterpart, which only KTO can learn
    from: of tasks where all rationales fit, or none.
    """
    by_id = {task.task_id: task for task in tasks}
    votes = count_votes(each for each in preferences if each.task_id in by_id)
    paired = {(pair.task_id, wording(text)) for pair in pairs for text in (pair.chosen, pair.rejected)}
    labels = [
        _label(by_id[task_id], each, weigh_agreement, paired=(task_id, key) in paired)
        for task_id, of_task in votes.items()
        for key, each in of_task.items()
        if each.fits != each.unfits
    ]
    return tuple(sorted(labels, key=lambda label: (label.task_id, label.rationale)))


@dataclass(frozen=True, slots=True)
class _Pair:
    """A pair before its task is known."""

    chosen: str
    rejected: str
    source: PairSource
    weight: float


class _Pairs:
    """Collects pairs; of two on the same wordings the more trusted one stays, of equals the heavier."""

    def __init__(
        self, tasks: Mapping[int, Task], weighted: bool, known: Iterable[PreferencePair] = ()
    ) -> None:
        self._tasks = tasks
        self._weighted = weighted
        self._known = {_wordings(pair) for pair in known}
        self._held: dict[tuple[int, frozenset[str]], PreferencePair] = {}

    def add(self, task_id: int, pairs: Iterable[_Pair]) -> None:
        for pair in pairs:
            made = _of_task(self._tasks[task_id], pair, self._weighted) if task_id in self._tasks else None
            if made is None or made.weight <= 0 or _wordings(made) in self._known:
                continue
            key = _wordings(made)
            if len(key[1]) == 2:
                self._held[key] = min(self._held.get(key, made), made, key=_preferred)

    def capped(self, per_task: int) -> list[PreferencePair]:
        """At most so many of each task, the most trusted ones; of equal trust a draw that stays the same."""
        of_task: dict[int, list[PreferencePair]] = defaultdict(list)
        for pair in sorted(self._held.values(), key=_by_trust):
            if len(of_task[pair.task_id]) < per_task:
                of_task[pair.task_id].append(pair)
        return [pair for kept in of_task.values() for pair in kept]

    def few(self, number: int) -> list[PreferencePair]:
        """At most so many of all, by a draw that stays the same."""
        return sorted(self._held.values(), key=_drawn)[:number]


def _judged_pairs(votes: TaskVotes, gap: float) -> Iterator[_Pair]:
    everything = list(votes.values())
    accepted = [each for each in everything if each.accepted]
    refused = [each for each in everything if each.refused]
    for good, bad in product(accepted, refused):
        yield _Pair(good.text, bad.text, PairSource.FITS, good.fit_share * (1 - bad.fit_share))
    for best, other in permutations(accepted, 2):
        if best.bests > other.bests:
            yield _Pair(best.text, other.text, PairSource.BEST, best.bests / (best.bests + other.bests))
    for good, bad in permutations(everything, 2):
        high, low = good.mean_stars, bad.mean_stars
        if high is not None and low is not None and high - low >= gap:
            yield _Pair(good.text, bad.text, PairSource.SCORE, 1.0)


def _remade_pairs(preference: Preference, votes: TaskVotes) -> Iterator[_Pair]:
    """What the rationale is preferred to because a person had that one changed."""
    made = votes[wording(preference.text)]
    before, original = votes.get(wording(preference.before)), votes.get(wording(preference.original))
    if before is not None and _rises(before, made):
        yield _Pair(made.text, before.text, PairSource.REFINED, 1.0)
    if preference.origin is Origin.EDITED and preference.original and made.accepted:
        doubt = original.fit_share if original is not None else 0.0
        yield _Pair(made.text, preference.original, PairSource.EDITED, made.fit_share * (1 - doubt))


def _rises(before: Votes, after: Votes) -> bool:
    low, high = before.score, after.score
    return low is not None and high is not None and high > low


def _automatic_pair(candidate_set: CandidateSet, measured: Agreement) -> Iterator[_Pair]:
    ends = extremes(candidate_set)
    if ends is not None:
        yield _Pair(ends[0], ends[1], PairSource.CSR, measured.share)


def _negative_pairs(votes: TaskVotes, texts: Collection[str]) -> Iterator[_Pair]:
    for good, bad in product((each for each in votes.values() if each.accepted), texts):
        judged = votes.get(wording(bad))
        if judged is None and wording(bad):
            yield _Pair(good.text, bad, PairSource.NEGATIVE, good.fit_share)


def _of_task(task: Task, pair: _Pair, weighted: bool) -> PreferencePair:
    return PreferencePair(
        task.task_id,
        task.image,
        task.question,
        task.answer,
        pair.chosen,
        pair.rejected,
        pair.source,
        pair.weight if weighted else float(pair.weight > 0),
    )


def _label(task: Task, votes: Votes, weighted: bool, *, paired: bool) -> LabelledRationale:
    return LabelledRationale(
        task.task_id,
        task.image,
        task.question,
        task.answer,
        votes.text,
        votes.accepted,
        votes.agreement if weighted else 1.0,
        paired,
    )


def _shared_weights(pairs: Iterable[PreferencePair]) -> tuple[PreferencePair, ...]:
    ordered = sorted(pairs, key=_by_trust)
    of_task: dict[int, int] = defaultdict(int)
    for pair in ordered:
        of_task[pair.task_id] += 1
    return tuple(replace(pair, weight=pair.weight / of_task[pair.task_id]) for pair in ordered)


def _wordings(pair: PreferencePair) -> tuple[int, frozenset[str]]:
    return pair.task_id, frozenset({wording(pair.chosen), wording(pair.rejected)})


def _preferred(pair: PreferencePair) -> tuple[int, float, str, str]:
    return _TRUST[pair.source], -pair.weight, pair.chosen, pair.rejected


def _drawn(pair: PreferencePair) -> tuple[int, int, str, str]:
    drawn = content_bits([pair.task_id, pair.chosen, pair.rejected])
    return drawn, pair.task_id, pair.chosen, pair.rejected


def _by_trust(pair: PreferencePair) -> tuple[int, int, tuple[int, int, str, str]]:
    return pair.task_id, _TRUST[pair.source], _drawn(pair)


def _by_annotation(preference: Preference) -> tuple[int, str]:
    return preference.annotation_id, preference.text
