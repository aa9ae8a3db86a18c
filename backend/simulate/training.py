"""The training run of an iteration: asked for once, found again by its trigger, watched to its end."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, wait

from backend.retrain import Retrain
from backend.service import Service
from backend.simulate.progress import Say, Stage, duration
from illume_plugin.errors import RunError
from illume_plugin.store import runs
from illume_plugin.training.config import TrainConfig
from illume_plugin.types import Json, Run, RunState

#: Runs belong to the folder's one simulation, so a new process may take back what a dead one had claimed.
OWNER = "simulate"
#: Seconds between two looks at a run.
LOOK_S = 2.0

_LIVE = (RunState.QUEUED, RunState.RUNNING)
_LOST = (RunState.FAILED, RunState.CANCELLED)


class Training:
    """Carries out the runs of one project, with the real child process and the real gate."""

    def __init__(self, service: Service, project_id: int, config: TrainConfig, say: Say) -> None:
        self._service = service
        self._project_id = project_id
        self._config = config
        self._say = say

    def run_of(self, iteration: int) -> Run | None:
        """The newest run of an iteration, unless it came to nothing."""
        with self._service.store.read() as conn:
            known = runs.recent(conn, self._project_id, limit=1)
        ours = (run for run in known if run.trigger == _trigger(iteration))
        return next((run for run in ours if run.state not in _LOST), None)

    def train(self, name: str, iteration: int) -> tuple[Run, float]:
        """The iteration's run, at its end, and the seconds that this took.

        Raises:
            RunError: it failed or was cancelled; the next call makes another one.
        """
        stage = Stage(self._say, name, 1, "run")
        run = self.run_of(iteration) or self._ask(iteration)
        if run.state in _LIVE:
            self._carry_out(run.run_id, stage)
        with self._service.store.read() as conn:
            run = runs.get(conn, run.run_id)
        if run.state in (*_LOST, *_LIVE):
            reason = run.error or "it gave no reason"
            raise RunError(
                f"The training run of iteration {iteration} is {run.state.value}: {reason}",
                todo="Start the same command again; it goes on from here.",
            )
        return run, stage.seconds

    def _ask(self, iteration: int) -> Run:
        run, _ = self._service.request_training(self._project_id, trigger=_trigger(iteration))
        return run

    def _carry_out(self, run_id: int, stage: Stage) -> None:
        store = self._service.store
        with store.write() as conn:
            runs.give_back(conn, run_id, owner=OWNER)  # a process of ours may have died over it
        retrain = Retrain(self._service, owner=OWNER, config=self._config)
        with ThreadPoolExecutor(1, "run") as pool:
            work = pool.submit(retrain.claim_and_run)
            try:
                while not wait([work], timeout=LOOK_S).done:
                    with store.read() as conn:
                        stage.tell(in_words(runs.get(conn, run_id).progress))
            except BaseException:
                retrain.stopping = True  # the run goes back into the queue while the pool waits for it
                raise
            work.result()


def in_words(progress: Mapping[str, Json]) -> str:
    """A child's progress, such as `training 30/120, about 12 s left`."""
    words = f"{progress.get('stage', 'starting')}"
    if progress.get("steps"):
        words += f" {progress.get('step')}/{progress['steps']}"
    left = progress.get("eta_s")
    return f"{words}, about {duration(left)} left" if left else words


def _trigger(iteration: int) -> str:
    return f"simulated iteration {iteration}"
