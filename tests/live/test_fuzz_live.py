"""Hostile texts against a real Label Studio: every task opens, with the texts as they were drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import httpx
import pytest
from conftest import SELECT, OnePicture, SayingGenerator
from fuzz.mutation import TEXTS

from backend.presample import push_ahead, sample_ahead
from backend.service import Service
from illume_plugin.generation.generator import SampleRequest
from illume_plugin.generation.plan import SamplingPlan
from illume_plugin.generation.stopping import never
from illume_plugin.labelstudio import LabelStudio
from illume_plugin.store import candidates, projects
from illume_plugin.types import Candidate

pytestmark = [pytest.mark.live, pytest.mark.timeout(600)]

#: What a task's data can hold in Label Studio, whose own database refuses NUL and lone surrogates.
WORDS = [
    text for text in TEXTS if text.strip() and not any(c == "\x00" or "\ud800" <= c <= "\udfff" for c in text)
]


class HostileGenerator(SayingGenerator):
    """Says every bad text there is, a few to a task."""

    def draw(
        self,
        requests: Sequence[SampleRequest],
        plan: SamplingPlan,
        *,
        adapter: str | None = None,
        stop: Callable[[], bool] = never,
    ) -> list[list[Candidate | None]]:
        some = [TEXTS[k : k + 5] for k in range(0, len(TEXTS), 5)]
        return [
            [
                Candidate(text=f"{text} {k}", temperature=0.5, seed=k)
                for k, text in enumerate(some[request.task.task_id % len(some)])
            ]
            for request in requests
        ]


def test_tasks_with_hostile_texts_open(served: Service, door: LabelStudio, tmp_path: Path) -> None:
    served.engine._generator = HostileGenerator()
    served.images = served.sampler.images = OnePicture(tmp_path)
    number = door.create_project("<script>alert(1)</script>", SELECT).project_id
    door.import_tasks(number, [{"image": "/static/x.png", "question": w, "answer": w} for w in WORDS])
    with served.store.write() as conn:
        projects.put(conn, number, title="hostile", label_config=SELECT, now=1.0)
        projects.put_tasks(conn, number, [(task.task_id, task.data) for task in door.tasks(number)])
        project = projects.get(conn, number)
    while sample_ahead(served, project):
        pass
    with served.store.read() as conn:
        drawn = candidates.get(
            conn, number, [t.task_id for t in door.tasks(number)], version="v0000", plan=served.plan.hash
        )
    assert len(drawn) >= len(WORDS) - 5, "most of these words make a task"
    assert push_ahead(served, project, everything=True) == len(drawn)
    with httpx.Client(base_url=door.url, headers=door.auth_headers(), trust_env=False, timeout=60) as http:
        for task_id, shown in drawn.items():
            opened = http.get(f"/api/tasks/{task_id}", params={"project": number})
            assert opened.status_code == 200, opened.text
            (prediction,) = opened.json()["predictions"]
            (region,) = prediction["result"]
            assert region["value"]["text"] == [each.text for each in shown.candidates]
