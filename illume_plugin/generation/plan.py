"""The sampling plan: how candidates are drawn, and the seed of every one of them."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from functools import cached_property

from illume_plugin.errors import SettingsError
from illume_plugin.types import MAX_CANDIDATES, Task


@dataclass(frozen=True)
class SamplingPlan:
    """How to sample the candidates of one task (ILLUME, arXiv 2208.08241: top-k, then temperature).

    Attributes:
        temperatures: each is used for `samples` draws.
        samples: draws per temperature.
        top_k_fraction: share of the vocabulary that is kept, the likeliest tokens, in (0, 1].
        max_new_tokens: a rationale that has not ended by then is thrown away.
        limit: candidates shown to a person at most; the screen has ten rows.
    """

    temperatures: tuple[float, ...] = (0.3, 0.6, 0.9)
    samples: int = 5
    top_k_fraction: float = 0.1
    max_new_tokens: int = 100
    limit: int = MAX_CANDIDATES

    def __post_init__(self) -> None:
        problems = list(self._problems())
        if problems:
            raise SettingsError("The sampling plan is wrong: " + " ".join(problems))

    @classmethod
    def paper(cls) -> SamplingPlan:
        """The grid read from the ILLUME authors' notes: 25 samples per task, nearly greedy to lively."""
        return cls(temperatures=(0.01, 0.1, 0.3, 0.6, 0.9))

    @property
    def size(self) -> int:
        """Draws per task."""
        return len(self.temperatures) * self.samples

    @cached_property
    def hash(self) -> str:
        """Twelve hexadecimal digits that are the same for equal plans, on every machine."""
        text = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def top_k(self, vocabulary: int) -> int:
        """Number of tokens kept out of a vocabulary, at least one."""
        return max(1, math.ceil(self.top_k_fraction * vocabulary))

    def seeds(self, task: Task, adapter: str | None) -> list[tuple[float, int]]:
        """Temperature and seed of every draw for `task`: the same for ever, different for each draw.

        Another task, adapter or plan gives other seeds, so that rounds do not repeat their noise. A seed
        has 48 bits and survives JSON, where large integers do not.
        """
        draws = [(t, i) for t in self.temperatures for i in range(self.samples)]
        where = (task.project_id, task.task_id, adapter or "", self.hash)
        return [(t, _seed(*where, t, i)) for t, i in draws]

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
        ]
        return [problem for fine, problem in checks if not fine]


def _seed(*parts: object) -> int:
    digest = hashlib.sha256(json.dumps(parts).encode()).digest()
    return int.from_bytes(digest[:6], "big")
