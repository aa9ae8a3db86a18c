"""The sampling plan: how candidates are drawn, and the seed of every one of them."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from functools import cached_property
from itertools import cycle, islice

from illume_plugin.errors import SettingsError
from illume_plugin.types import MAX_CANDIDATES, Task, Wish

#: Wordings of the rationale prompt at most, and characters of one.
MAX_SUFFIXES, MAX_SUFFIX_LENGTH = 8, 300

#: Fields that plans had from the start. Others are part of a plan's hash only where they are set, so that
#: candidate sets stored before there were such fields stay those of their plan.
_ALWAYS_HASHED = frozenset({"temperatures", "samples", "top_k_fraction", "max_new_tokens", "limit"})


class Strategy(StrEnum):
    """How rationales come about."""

    SAMPLE = "sample"  # each in one go
    SENTENCE_SEARCH = "sentence_search"  # sentence by sentence, going on from the best and the worst


@dataclass(frozen=True)
class SentenceSearch:
    """How CSR's search over sentences goes (arXiv 2405.14622; the defaults are its code's unless marked).

    Attributes:
        sentences: next sentences that are drawn behind each open path. Behind the prompt itself, which
            stands for all paths at first, it is `width` of them [ours]: most rationales are one sentence.
        best: paths of highest rank that stay open.
        worst: paths of lowest rank that stay open.
        sentence_tokens: a sentence that has not ended by then is thrown away [theirs is cut there].
        max_sentences: a path of so many sentences is taken as it stands [ours].
        relevance_weight: CSR's lambda, in [0, 1]; without an image-text encoder the likelihood decides alone.
    """

    sentences: int = 5
    best: int = 1
    worst: int = 2
    sentence_tokens: int = 70
    max_sentences: int = 4
    relevance_weight: float = 0.9

    @property
    def width(self) -> int:
        """Sentences that are drawn at a time at most, for one prompt."""
        return self.sentences * (self.best + self.worst)

    def problems(self) -> list[str]:
        """What is wrong with these figures, one sentence each."""
        whole = {
            "sentences": (self.sentences, 1, 50),
            "best": (self.best, 1, 10),
            "worst": (self.worst, 0, 10),
            "sentence_tokens": (self.sentence_tokens, 1, 2048),
            "max_sentences": (self.max_sentences, 1, 50),
        }
        found = [
            f"search.{name} must be {low} to {high}, not {value}."
            for name, (value, low, high) in whole.items()
            if not low <= value <= high
        ]
        if not 0 <= self.relevance_weight <= 1:
            found.append(f"search.relevance_weight must be in [0, 1], not {self.relevance_weight}.")
        return found


@dataclass(frozen=True)
class SamplingPlan:
    """How to sample the candidates of one task (ILLUME, arXiv 2208.08241: top-k, then temperature).

    A task gets prompts x temperatures x samples draws, or, with `search`, what the search finds behind
    each prompt.

    Attributes:
        temperatures: each is used for `samples` draws; the sentences of a search take turns with them.
        samples: draws per temperature; a search has a number of its own.
        top_k_fraction: share of the vocabulary that is kept, the likeliest tokens, in (0, 1].
        max_new_tokens: a rationale that has not ended by then is thrown away.
        limit: candidates shown to a person at most; the screen has ten rows.
        suffixes: further wordings of the rationale prompt beside the base model's own, which stays the
            first: what follows the answer for a plain model ("because"), the question why for a chat model.
            They give other candidates, no other scores: whatever a text was drawn with, scoring, evaluation
            and training put it behind the base model's own prompt.
        search: how to search sentence by sentence; None draws each rationale in one go.
        common_noise: every adapter draws with the same seeds, so that two of them are compared on equal
            terms (common random numbers) and a figure does not hang on what an adapter is called.
    """

    temperatures: tuple[float, ...] = (0.3, 0.6, 0.9)
    samples: int = 5
    top_k_fraction: float = 0.1
    max_new_tokens: int = 100
    limit: int = MAX_CANDIDATES
    suffixes: tuple[str, ...] = ()
    search: SentenceSearch | None = None
    common_noise: bool = False

    def __post_init__(self) -> None:
        problems = list(self._problems())
        if problems:
            raise SettingsError("The sampling plan is wrong: " + " ".join(problems))

    @classmethod
    def paper(cls) -> SamplingPlan:
        """The grid read from the ILLUME authors' notes: 25 samples per task, nearly greedy to lively."""
        return cls(temperatures=(0.01, 0.1, 0.3, 0.6, 0.9))

    @property
    def strategy(self) -> Strategy:
        """How rationales come about."""
        return Strategy.SENTENCE_SEARCH if self.search else Strategy.SAMPLE

    @property
    def wordings(self) -> tuple[str | None, ...]:
        """The suffix of every prompt; None is the base model's own."""
        return (None, *self.suffixes)

    @property
    def copies(self) -> int:
        """Texts that are drawn at a time behind one prompt."""
        return self.search.width if self.search else len(self.temperatures) * self.samples

    @property
    def size(self) -> int:
        """Texts that are drawn at a time for a task: all of them, or a search's widest step."""
        return len(self.wordings) * self.copies

    @cached_property
    def hash(self) -> str:
        """Twelve hexadecimal digits that are the same for equal plans, on every machine."""
        unset = {f.name for f in fields(self) if getattr(self, f.name) == f.default} - _ALWAYS_HASHED
        values = {name: value for name, value in asdict(self).items() if name not in unset}
        text = json.dumps(values, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def top_k(self, vocabulary: int) -> int:
        """Number of tokens kept out of a vocabulary, at least one."""
        return max(1, math.ceil(self.top_k_fraction * vocabulary))

    def seeds(
        self, task: Task, adapter: str | None, wording: int = 0, *, wish: Wish | None = None
    ) -> list[tuple[float, int]]:
        """Temperature and seed of every draw for `task` behind one of its prompts, `copies` of them.

        They are the same for ever, and different for each draw. Another task, adapter (without
        `common_noise`) or plan gives other seeds, so that rounds do not repeat their noise. A seed has 48
        bits and survives JSON, where large integers do not.

        Args:
            wording: which of `wordings`.
            wish: what is wished for; another wish, or the same one in another round, gives other seeds.
        """
        draws = [(t, i) for t in self.temperatures for i in range(self.samples)]
        wished = [] if wish is None else ["wish", wish.round, wish.before, wish.text]
        where = (*self._where(task, adapter), *([wording] if wording else []), *wished)
        return [(t, _seed(*where, t, i)) for t, i in draws]

    def sentence_seeds(
        self, task: Task, adapter: str | None, wording: int, said: Sequence[int]
    ) -> list[tuple[float, int]]:
        """Temperature and seed of every next sentence behind one path of a search.

        They depend on the path and on nothing else that is being searched.

        Args:
            said: tokens of the path so far; none at the prompt.

        Raises:
            ValueError: this plan has no search.
        """
        if self.search is None:
            raise ValueError("A plan that draws rationales in one go has no next sentences.")
        count = self.search.sentences if said else self.search.width
        where = (*self._where(task, adapter), "sentence", wording, list(said))
        return [(t, _seed(*where, t, i)) for i, t in enumerate(islice(cycle(self.temperatures), count))]

    def _where(self, task: Task, adapter: str | None) -> tuple[int, int, str, str]:
        return task.project_id, task.task_id, "" if self.common_noise else adapter or "", self.hash

    def _problems(self) -> list[str]:
        temperatures = self.temperatures
        checks = [
            (
                bool(temperatures) and all(math.isfinite(t) and 0 < t <= 5 for t in temperatures),
                f"temperatures must be numbers above 0 and at most 5, not {list(temperatures)}.",
            ),
            (
                len(set(temperatures)) == len(temperatures),
                f"temperatures must differ, not {list(temperatures)}.",
            ),
            (1 <= self.samples <= 100, f"samples must be 1 to 100, not {self.samples}."),
            (0 < self.top_k_fraction <= 1, f"top_k_fraction must be in (0, 1], not {self.top_k_fraction}."),
            (
                1 <= self.max_new_tokens <= 2048,
                f"max_new_tokens must be 1 to 2048, not {self.max_new_tokens}.",
            ),
            (1 <= self.limit <= MAX_CANDIDATES, f"limit must be 1 to {MAX_CANDIDATES}, not {self.limit}."),
            (
                len(self.suffixes) <= MAX_SUFFIXES and len(set(self.suffixes)) == len(self.suffixes),
                f"suffixes must be at most {MAX_SUFFIXES} and differ, not {list(self.suffixes)}.",
            ),
            (
                all(
                    s.strip() == s and 0 < len(s) <= MAX_SUFFIX_LENGTH and s.isprintable()
                    for s in self.suffixes
                ),
                f"suffixes must be one line of 1 to {MAX_SUFFIX_LENGTH} characters without space around, not "
                f"{list(self.suffixes)}.",
            ),
        ]
        found = [problem for fine, problem in checks if not fine]
        return [*found, *(self.search.problems() if self.search else [])]


def not_on_a_server() -> SettingsError:
    """The error of a search that is asked for where a vLLM server samples."""
    return SettingsError(
        "ILLUME_STRATEGY=sentence_search does not go with a vLLM server (ILLUME_VLLM_URL).",
        why="A search goes on behind the tokens of a path; a server continues chats, which are text, and may"
        " write the same words as other tokens.",
        todo="Set ILLUME_STRATEGY=sample, or unset ILLUME_VLLM_URL to search in this process.",
    )


def _seed(*parts: object) -> int:
    digest = hashlib.sha256(json.dumps(parts).encode()).digest()
    return int.from_bytes(digest[:6], "big")
