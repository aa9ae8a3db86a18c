"""Tasks that nobody opens: they wait with candidates, and give DPO pairs by rank where that is wanted."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from sayings import SayingGenerator

from backend.sampling import Engine
from backend.service import Service
from backend.simulate import Options, Simulation
from backend.simulate.labelling import Labelling
from backend.simulate.world import labelled_tasks, unjudged_tasks
from backend.snapshot import snapshot
from illume_plugin.embedded import WorldTask, rationales
from illume_plugin.examples import PairSource
from illume_plugin.generation import SampleRequest, SamplingPlan
from illume_plugin.generation.stopping import never
from illume_plugin.store import judgements
from illume_plugin.training.objectives.settings import ObjectiveSettings
from illume_plugin.types import Candidate, TrainingSet

#: Enough that twenty choices by rank can be compared with people's.
OPTIONS = Options(tasks=40, iterations=1, unjudged=10)
LABELLED = labelled_tasks(OPTIONS.seed, tasks=OPTIONS.tasks, iteration=1)
UNJUDGED = unjudged_tasks(OPTIONS.seed, OPTIONS.unjudged)


class Knowing(SayingGenerator):
    """Says a rationale that fits and one that says nothing, and finds the first `likelier`."""

    def __init__(self, *, likelier: bool) -> None:
        super().__init__()
        self.likelier = likelier

    def draw(
        self,
        requests: Sequence[SampleRequest],
        plan: SamplingPlan,
        *,
        adapter: str | None = None,
        stop: Callable[[], bool] = never,
    ) -> list[list[Candidate | None]]:
        self.calls.append([request.task.task_id for request in requests])
        return [list(self._say({**LABELLED, **UNJUDGED}[request.task.task_id])) for request in requests]

    def _say(self, task: WorldTask) -> Iterator[Candidate]:
        fitting = rationales(task.scene, task.question, task.answer, random.Random(0))
        yield Candidate(fitting, 0.5, 1, logprob_mean=-0.1 if self.likelier else -1.0)
        yield Candidate("because it is obvious .", 0.5, 2, logprob_mean=-0.5)


@pytest.fixture
def simulation(tmp_path: Path, _migrated: Path) -> Simulation:
    (tmp_path / "out" / "data").mkdir(parents=True)
    shutil.copy(_migrated, tmp_path / "out" / "data" / "illume.sqlite3")
    return Simulation(OPTIONS, tmp_path / "out", say=lambda _line: None)


@pytest.fixture(params=[True, False], ids=["ranks agree with people", "ranks do not"])
def agrees(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def generator(agrees: bool, monkeypatch: pytest.MonkeyPatch) -> Knowing:
    made = Knowing(likelier=agrees)
    monkeypatch.setattr(Engine, "_load", lambda _self: made)
    return made


@pytest.fixture
def service(simulation: Simulation, generator: Knowing) -> Iterator[Service]:
    with simulation.service() as service:
        labelling = Labelling(
            service, simulation.pictures, simulation.project_id, simulation.annotators, simulation.say
        )
        labelling.label("round", LABELLED)
        labelling.leave(UNJUDGED)
        calls = len(generator.calls)
        labelling.leave(UNJUDGED)
        assert len(generator.calls) == calls, "what is there is not sampled again"
        yield service


def learnt(service: Service, simulation: Simulation, **settings: bool) -> TrainingSet:
    return snapshot(service, simulation.project_id, objectives=ObjectiveSettings(dpo=1.0, **settings))


def test_they_give_pairs_by_rank_while_ranks_agree_with_people(
    service: Service, simulation: Simulation, agrees: bool
) -> None:
    by_source = {
        source: {
            pair.task_id for pair in learnt(service, simulation).pairs if pair.source is PairSource(source)
        }
        for source in ("fits", "csr")
    }
    assert by_source["fits"] <= LABELLED.keys()
    assert by_source["csr"] <= UNJUDGED.keys()
    assert bool(by_source["csr"]) is agrees


def test_they_give_none_where_that_is_not_wanted(service: Service, simulation: Simulation) -> None:
    found, without = learnt(service, simulation), learnt(service, simulation, self_reward=False)
    people = tuple(pair for pair in found.pairs if pair.source is not PairSource.CSR)
    assert without.pairs == people
    assert without.rows == found.rows


def test_nobody_judges_them_and_their_answers_are_learnt(service: Service, simulation: Simulation) -> None:
    with service.store.read() as conn:
        judged = {one.task_id for one in judgements.preferences_in(conn, simulation.project_id)}
    assert judged == LABELLED.keys()
    rows = [row for row in learnt(service, simulation).rows if row.task_id in UNJUDGED]
    assert rows
    assert all(row.rationale is None for row in rows)


def test_no_labelled_task_is_one_of_them() -> None:
    assert not LABELLED.keys() & UNJUDGED.keys()
    scenes = [str(task.to_json()) for task in (*LABELLED.values(), *UNJUDGED.values())]
    assert len(set(scenes)) == len(scenes)
