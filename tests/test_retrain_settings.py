"""What a run takes from the settings of training and base model, and leaves in the version that it makes."""

from __future__ import annotations

import pytest
from test_retrain import StandInChild, submitted

import backend.retrain
from backend.retrain import Retrain
from backend.service import Service
from backend.snapshot import snapshot
from illume_plugin.quantization import Quantization
from illume_plugin.store import candidates, runs
from illume_plugin.training.estimate import Pace
from illume_plugin.training.objectives.settings import ObjectiveSettings
from illume_plugin.training.spec import RunSpec, read_spec
from illume_plugin.types import Candidate, CandidateSet


@pytest.fixture
def labelled(service: Service, connected: int) -> Service:
    """Project 2 with 12 submitted tasks, two candidates of three ticked on each."""
    for task_id in range(1, 13):
        service.receive(submitted(task_id, ["c1", "c3"]))
    service.apply_events()
    return service


@pytest.mark.parametrize("kind", [Quantization.NONE, Quantization.NF4])
def test_a_version_says_in_how_few_bits_its_base_model_was(
    labelled: Service, kind: Quantization, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs: list[RunSpec] = []

    class Child(StandInChild):
        def running(self) -> bool:
            specs.append(read_spec(self.folder))
            return super().running()

    monkeypatch.setattr(backend.retrain, "TrainingChild", Child)
    monkeypatch.setattr(labelled, "settings", labelled.settings.model_copy(update={"quantization": kind}))
    labelled.request_training(2, trigger="test")
    run = Retrain(labelled, owner="worker").claim_and_run()
    assert run is not None
    assert {spec.quantization for spec in specs} == {kind}
    meta = labelled.registry.verify(2, run.version or "")
    assert meta.config["quantization"] == kind.value
    with labelled.store.read() as conn:
        report = runs.get(conn, run.run_id).report
    pace = Pace.of({"pace": {**report["pace"], "step_s": 1.0}})
    assert pace is not None
    assert pace.quantization == kind, "its time and memory tell of runs in as few bits"


def test_a_snapshot_has_the_i2c_of_its_rationales_where_they_are_weighed_by_it(labelled: Service) -> None:
    plain = snapshot(labelled, 2)
    task_id, text = plain.rows[0].task_id, plain.rows[0].rationale or ""
    drawn = (Candidate(text.upper(), 0.3, 1, i2c=0.25),)
    with labelled.store.write() as conn:
        candidates.put(conn, CandidateSet(2, task_id, "v0000", "plan", 1, 0.5, drawn), now=1.0)
    found = snapshot(labelled, 2, objectives=ObjectiveSettings(weigh_content=True))
    assert {row.rationale: row.i2c for row in found.rows if row.i2c is not None} == {text: 0.25}
    assert found.content_hash != plain.content_hash
    assert snapshot(labelled, 2) == plain
