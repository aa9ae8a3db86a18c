"""Two trials one after the other while people label, a worker works and Label Studio asks: all at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from statistics import fmean

import pytest
from conftest import SECRET, SayingGenerator, both_stores, task
from test_trial_service import connected_with_tasks, on_screen, project_of, publish, texts_of
from test_worker import TakingLabelStudio, label_studio

import backend.worker
from backend import trials
from backend.app import create_app
from backend.service import Service
from backend.settings import SECRET_HEADER
from backend.worker import Worker
from illume_plugin.generation.generator import SampleRequest
from illume_plugin.generation.plan import SamplingPlan
from illume_plugin.generation.stopping import never
from illume_plugin.store import projects, versions
from illume_plugin.trials import Trial, TrialEnd
from illume_plugin.types import BASE_VERSION, Candidate, Project

__all__ = ["connected_with_tasks", "label_studio"]

pytestmark = [both_stores, pytest.mark.timeout(600)]

PEOPLE = 3
#: Tasks that nobody has seen yet; the fixture's own were sampled with other texts.
FIRST, LAST = 101, 280
WITHIN_S = 240.0
#: What each version says; people tick what the second one does.
SAYS = {BASE_VERSION: "everything is green", "v0001": "there is grass", "v0002": "it was summer then"}
LIKED = "v0001"


def writer(text: str) -> str:
    return next(version for version, says in SAYS.items() if text.startswith(says))


class Voices(SayingGenerator):
    """Its texts tell which version wrote them to who knows SAYS."""

    def draw(
        self,
        requests: Sequence[SampleRequest],
        plan: SamplingPlan,
        *,
        adapter: str | None = None,
        stop: Callable[[], bool] = never,
    ) -> list[list[Candidate | None]]:
        says = SAYS[BASE_VERSION if adapter is None else adapter.removeprefix("p2-")]
        return [[Candidate(f"{says}, point {k}", 0.5, k) for k in range(3)] for _ in requests]


@dataclass
class People:
    """Annotators who open one task after the other, tick what they like and submit; their calls are kept."""

    service: Service
    reviewed: threading.Condition = field(default_factory=threading.Condition)
    rounds: int = 0
    problems: list[str] = field(default_factory=list)
    #: annotation -> (task, version that wrote a row and whether it was ticked)
    submitted: dict[int, tuple[int, list[tuple[str, bool]]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._app = create_app(self.service.settings, service=self.service)
        self._stop = threading.Event()
        self._tasks, self._numbers, self._submitting = count(FIRST), count(1001), threading.Lock()

    def review(self, service: Service, project: Project) -> Trial | None:
        """The worker's look at the trial, which those who have submitted wait for."""
        ended = trials.review(service, project)
        with self.reviewed:
            self.rounds += 1
            self.reviewed.notify_all()
        return ended

    @contextmanager
    def at_work(self) -> Iterator[None]:
        threads = [threading.Thread(target=self._label) for _ in range(PEOPLE)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()

    def wait_until(self, condition: Callable[[], bool]) -> None:
        with self.reviewed:
            assert self.reviewed.wait_for(condition, WITHIN_S), (self.problems, len(self.submitted))

    def _label(self) -> None:
        client = self._app.test_client()
        while not self._stop.is_set() and (number := next(self._tasks)) <= LAST:
            body = {"project": "2.1", "tasks": [task(number)], "params": {"context": None}}
            answer = client.post("/predict", json=body, headers={SECRET_HEADER: SECRET})
            items = (answer.get_json() or {}).get("results", [])
            if answer.status_code != 200 or len(items) != 1 or not items[0].get("result"):
                self.problems.append(f"task {number}: {answer.status_code} {answer.text:.200}")
                continue
            self._submit(client, number, items[0]["result"][0])

    def _submit(self, client: object, number: int, region: dict[str, object]) -> None:
        texts = texts_of({"result": [region]})
        rows = [(writer(text), writer(text) == LIKED) for text in texts]
        chosen = [f"c{row}" for row, (_, liked) in enumerate(rows, start=1) if liked] or ["none"]
        fits = {"from_name": "fits", "to_name": "image", "type": "choices", "value": {"choices": chosen}}
        with self._submitting:  # Label Studio gives numbers as annotations are made
            annotation = next(self._numbers)
            self.submitted[annotation] = (number, rows)
        told = {
            "id": annotation,
            "task": number,
            "updated_at": "2026-11-22T00:00:00Z",
            "result": [region, fits],
            "was_cancelled": False,
            "completed_by": 1,
        }
        event = {
            "action": "ANNOTATION_CREATED",
            "annotation": told,
            "task": task(number),
            "project": {"id": 2},
        }
        answer = client.post("/webhook", json=event, headers={SECRET_HEADER: SECRET})  # type: ignore[attr-defined]
        if answer.status_code >= 300:
            self.problems.append(f"annotation {annotation}: {answer.status_code} {answer.text:.200}")
        with self.reviewed:
            seen = self.rounds
            self.reviewed.wait_for(lambda: self.rounds > seen or self._stop.is_set(), 5)


@contextmanager
def working(service: Service) -> Iterator[None]:
    worker = Worker(service)
    thread = threading.Thread(target=worker.run, kwargs={"handle_signals": False})
    thread.start()
    try:
        yield
    finally:
        worker.shut_down()
        thread.join()


def counted(people: People, trial: Trial, number: int) -> list[float]:
    """The differences of the first tasks of a trial, from what the people themselves remember."""
    found: dict[int, float] = {}
    for annotation, (task_id, rows) in sorted(people.submitted.items()):
        ticked = {v: [liked for by, liked in rows if by == v] for v in (trial.active, trial.challenger)}
        if annotation > trial.after_annotation and all(ticked.values()):
            found.setdefault(task_id, fmean(ticked[trial.challenger]) - fmean(ticked[trial.active]))
    return list(found.values())[:number]


def test_two_trials_in_a_row_under_load(
    connected_with_tasks: Service, label_studio: TakingLabelStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = connected_with_tasks
    service.engine._generator = Voices()
    publish(service)
    with service.store.write() as conn:
        projects.put_tasks(conn, 2, [(number, task(number)["data"]) for number in range(FIRST, LAST + 1)])
    people = People(service)
    monkeypatch.setattr(backend.worker, "review", people.review)
    ended: list[trials.Standing] = []
    with people.at_work(), working(service):
        for challenger in ("v0001", "v0002"):
            begun = trials.begin(service, 2, challenger, who="ann")
            people.wait_until(lambda: project_of(service).challenger is None)
            standing = trials.standing(service, 2)
            assert standing is not None
            assert standing.trial.trial_id == begun.trial_id
            ended.append(standing)
    worker = Worker(service)
    while worker._round():  # what was under way when the people went home
        pass

    assert people.problems == []
    assert [one.trial.end for one in ended] == [TrialEnd.BETTER, TrialEnd.WORSE]
    for one in ended:
        differences = counted(people, one.trial, one.figures.tasks)
        assert len(differences) == one.figures.tasks, "each annotation counted once, in its trial alone"
        assert fmean(differences) == pytest.approx(one.figures.difference)
    with service.store.read() as conn:
        assert [switch.to_version for switch in versions.switched(conn, 2)] == ["v0001"]
        assert list(versions.retired(conn, 2)) == ["v0002"]
    judged = {task_id for task_id, _ in people.submitted.values()}
    unjudged = set(range(FIRST, LAST + 1)) - judged
    assert unjudged, "the trials ended before the tasks did"
    wrote = {writer(text) for number in unjudged for text in texts_of(on_screen(service, number))}
    assert wrote == {"v0001"}, "fresh candidates of the one that serves for everybody who comes tomorrow"
