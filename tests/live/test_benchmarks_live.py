"""The benchmarks that need a real Label Studio, at toy size."""

from __future__ import annotations

from pathlib import Path

import pytest
from catch_up_work import Project, Sizes, import_annotated
from live_labelstudio import connected, project_with, task
from push_work import Bench

from live.conftest import LiveLabelStudio

pytestmark = pytest.mark.live


def test_both_ways_of_pushing_are_measured(label_studio: LiveLabelStudio, tmp_path: Path) -> None:
    with label_studio.door() as door, connected(door, tmp_path / "ours", label_studio.token) as service:
        bench = Bench(door, service, 12, 2)
        assert bench.ours() > 0
        assert bench.peer() > 0


def test_changes_without_an_event_are_caught_up_with(label_studio: LiveLabelStudio, tmp_path: Path) -> None:
    sizes = Sizes(imported=3, annotated=2)
    with label_studio.door() as door, connected(door, tmp_path / "ours", label_studio.token) as service:
        project_id, ids = project_with(door, "catch up", [task(number) for number in range(6)])
        import_annotated(door, project_id, range(6, 8))
        project = Project(service, door, project_id, ids)
        project.change(sizes)
        assert project.round().found.new_annotations == sizes.changes
        assert project.export() > 0
