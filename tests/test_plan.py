"""The sampling plan: validation, identity, seeds."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from illume_plugin.errors import SettingsError
from illume_plugin.generation import SamplingPlan
from illume_plugin.types import Task

TASK = Task(2, 7, "/p/7.png", "what is it?", "a dog")


def test_the_default_hash_never_changes_by_accident() -> None:
    """A changed hash makes every stored candidate set stale: change this line only on purpose."""
    assert SamplingPlan().hash == "5bf868b4bb7d"


@pytest.mark.parametrize(
    "change",
    [
        {"temperatures": (0.3, 0.6)},
        {"samples": 4},
        {"top_k_fraction": 0.2},
        {"max_new_tokens": 99},
        {"limit": 9},
    ],
)
def test_every_field_is_part_of_the_identity(change: dict[str, Any]) -> None:
    assert SamplingPlan(**change).hash != SamplingPlan().hash


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"temperatures": ()}, "temperatures"),
        ({"temperatures": (0.0,)}, "temperatures"),
        ({"temperatures": (float("nan"),)}, "temperatures"),
        ({"temperatures": (0.3, 0.3)}, "differ"),
        ({"samples": 0}, "samples must be 1 to 100, not 0"),
        ({"top_k_fraction": 0.0}, "top_k_fraction"),
        ({"top_k_fraction": 1.1}, "1.1"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"limit": 11}, "limit must be 1 to 10, not 11"),
    ],
)
def test_a_senseless_plan_is_refused_with_its_value(change: dict[str, Any], word: str) -> None:
    with pytest.raises(SettingsError, match=word):
        SamplingPlan(**change)


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(SettingsError, match=r"samples.*limit"):
        SamplingPlan(samples=0, limit=0)


def test_the_paper_grid_draws_25() -> None:
    assert SamplingPlan.paper().size == 25


@pytest.mark.parametrize(
    ("fraction", "vocabulary", "kept"), [(0.1, 443, 45), (0.1, 5, 1), (1.0, 7, 7), (0.001, 9, 1)]
)
def test_top_k(fraction: float, vocabulary: int, kept: int) -> None:
    assert SamplingPlan(top_k_fraction=fraction).top_k(vocabulary) == kept


def test_seeds_differ_between_draws_tasks_adapters_and_plans() -> None:
    plans = [SamplingPlan(), SamplingPlan(max_new_tokens=50)]
    tasks = [TASK, Task(2, 8, "", "", ""), Task(3, 7, "", "", "")]
    seeds = [
        seed for p in plans for t in tasks for a in (None, "v0001", "v0002") for _, seed in p.seeds(t, a)
    ]
    assert len(set(seeds)) == len(seeds) == 2 * 3 * 3 * 15


def test_seeds_depend_on_identity_only_and_survive_json() -> None:
    renamed = Task(2, 7, "/elsewhere.png", "another wording", "a cat")
    seeds = SamplingPlan().seeds(TASK, "v0001")
    assert SamplingPlan().seeds(renamed, "v0001") == seeds
    assert [tuple(pair) for pair in json.loads(json.dumps(seeds))] == seeds
    assert all(float(seed) == seed for _, seed in seeds)


@pytest.mark.parametrize(
    "module", ["illume_plugin.generation", "illume_plugin.training", "illume_plugin.registry"]
)
def test_importing_does_not_load_torch(module: str) -> None:
    check = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
