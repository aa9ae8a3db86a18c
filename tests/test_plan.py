"""The sampling plan: validation, identity, seeds."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from illume_plugin.errors import SettingsError
from illume_plugin.generation import SamplingPlan
from illume_plugin.generation.plan import SentenceSearch, Strategy
from illume_plugin.types import Task

TASK = Task(2, 7, "/p/7.png", "what is it?", "a dog")


def test_the_default_hash_never_changes_by_accident() -> None:
    """A changed hash makes every stored candidate set stale: change this line only on purpose."""
    assert SamplingPlan().hash == "5bf868b4bb7d"
    assert SamplingPlan(suffixes=(), search=None).hash == "5bf868b4bb7d"


def test_plans_of_before_there_were_searches_keep_their_hash() -> None:
    plan = SamplingPlan((0.7,), 3, 0.2, 40, 6)
    fields = {"limit": 6, "max_new_tokens": 40, "samples": 3, "temperatures": [0.7], "top_k_fraction": 0.2}
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    assert plan.hash == hashlib.sha256(text.encode()).hexdigest()[:12]


@pytest.mark.parametrize(
    "change",
    [
        {"temperatures": (0.3, 0.6)},
        {"samples": 4},
        {"top_k_fraction": 0.2},
        {"max_new_tokens": 99},
        {"limit": 9},
        {"suffixes": ("because",)},
        {"search": SentenceSearch()},
        {"common_noise": True},
    ],
)
def test_every_field_is_part_of_the_identity(change: dict[str, Any]) -> None:
    assert SamplingPlan(**change).hash != SamplingPlan().hash


@pytest.mark.parametrize(
    "change",
    [
        {"sentences": 4},
        {"best": 2},
        {"worst": 1},
        {"sentence_tokens": 60},
        {"max_sentences": 3},
        {"relevance_weight": 0.5},
    ],
)
def test_every_field_of_a_search_is_part_of_the_identity(change: dict[str, Any]) -> None:
    assert SamplingPlan(search=SentenceSearch(**change)).hash != SamplingPlan(search=SentenceSearch()).hash


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
        ({"suffixes": ("why?", "why?")}, "suffixes must be at most 8 and differ"),
        ({"suffixes": tuple("abcdefghi")}, "suffixes must be at most 8"),
        ({"suffixes": (" because",)}, "without space around"),
        ({"suffixes": ("",)}, "1 to 300 characters"),
        ({"suffixes": ("x" * 301,)}, "1 to 300 characters"),
        ({"suffixes": ("two\nlines",)}, "one line"),
        ({"search": SentenceSearch(sentences=0)}, r"search\.sentences must be 1 to 50, not 0"),
        ({"search": SentenceSearch(best=0)}, r"search\.best must be 1 to 10, not 0"),
        ({"search": SentenceSearch(worst=-1)}, r"search\.worst must be 0 to 10, not -1"),
        ({"search": SentenceSearch(sentence_tokens=0)}, r"search\.sentence_tokens"),
        ({"search": SentenceSearch(max_sentences=51)}, r"search\.max_sentences must be 1 to 50, not 51"),
        ({"search": SentenceSearch(relevance_weight=1.1)}, r"search\.relevance_weight .* not 1\.1"),
        ({"search": SentenceSearch(relevance_weight=float("nan"))}, "relevance_weight"),
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
    ("plan", "copies", "size", "strategy"),
    [
        (SamplingPlan(), 15, 15, "sample"),
        (SamplingPlan((0.5, 0.9), 2, suffixes=("because", "as")), 4, 12, "sample"),
        (SamplingPlan(search=SentenceSearch()), 15, 15, "sentence_search"),
        (SamplingPlan(suffixes=("as",), search=SentenceSearch(4, 2, 1)), 12, 24, "sentence_search"),
    ],
)
def test_texts_at_a_time(plan: SamplingPlan, copies: int, size: int, strategy: str) -> None:
    assert (plan.copies, plan.size, plan.strategy) == (copies, size, Strategy(strategy))


def test_the_base_models_own_prompt_is_the_first() -> None:
    assert SamplingPlan(suffixes=("because",)).wordings == (None, "because")


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


def test_with_common_noise_all_adapters_draw_alike_and_other_tasks_do_not() -> None:
    plan = SamplingPlan(common_noise=True)
    assert plan.seeds(TASK, "v0001") == plan.seeds(TASK, None) == plan.seeds(TASK, "challenger")
    assert plan.seeds(replace(TASK, task_id=TASK.task_id + 1), None) != plan.seeds(TASK, None)
    assert plan.seeds(TASK, None) != SamplingPlan().seeds(TASK, None)


def test_seeds_depend_on_identity_only_and_survive_json() -> None:
    renamed = Task(2, 7, "/elsewhere.png", "another wording", "a cat")
    seeds = SamplingPlan().seeds(TASK, "v0001")
    assert SamplingPlan().seeds(renamed, "v0001") == seeds
    assert [tuple(pair) for pair in json.loads(json.dumps(seeds))] == seeds
    assert all(float(seed) == seed for _, seed in seeds)


def test_each_wording_has_seeds_of_its_own() -> None:
    plan = SamplingPlan(suffixes=("because", "as"))
    seeds = [seed for wording in range(3) for _, seed in plan.seeds(TASK, None, wording)]
    assert len(set(seeds)) == len(seeds) == plan.size
    assert plan.seeds(TASK, None) == plan.seeds(TASK, None, 0)


def test_a_sentence_has_the_seed_of_its_path() -> None:
    plan = SamplingPlan((0.3, 0.9), suffixes=("as",), search=SentenceSearch(sentences=3, best=1, worst=1))
    other = replace(TASK, task_id=8)
    paths = [(), (5,), (5, 6), (56,), (6, 5)]
    seeds = [
        seed
        for task in (TASK, other)
        for adapter in (None, "v0001")
        for wording in (0, 1)
        for said in paths
        for _, seed in plan.sentence_seeds(task, adapter, wording, said)
    ]
    assert len(set(seeds)) == len(seeds) == 2 * 2 * 2 * (6 + 4 * 3)
    assert [t for t, _ in plan.sentence_seeds(TASK, None, 0, ())] == [0.3, 0.9] * 3
    assert [t for t, _ in plan.sentence_seeds(TASK, None, 0, (5,))] == [0.3, 0.9, 0.3]
    assert plan.sentence_seeds(TASK, None, 1, [5]) == plan.sentence_seeds(TASK, None, 1, (5,))


def test_a_plan_without_a_search_has_no_next_sentences() -> None:
    with pytest.raises(ValueError, match="in one go"):
        SamplingPlan().sentence_seeds(TASK, None, 0, ())


@pytest.mark.parametrize(
    "module", ["illume_plugin.generation", "illume_plugin.training", "illume_plugin.registry"]
)
def test_importing_does_not_load_torch(module: str) -> None:
    check = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
