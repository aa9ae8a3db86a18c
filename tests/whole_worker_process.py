"""A process for test_one_at_a_time.py: the real worker's loops, or one of them; no torch.

Works until its standard input closes, or does what it is told once; says in one line what it did.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Mapping
from typing import Any

from conftest import SECRET, OnePicture, SayingGenerator
from worker_process import Quick, say

import backend.retrain
from backend.keeping_step import KeepingStep
from backend.leasing import new_owner
from backend.presample import push_ahead
from backend.retrain import Retrain
from backend.service import Service
from backend.settings import load_settings
from backend.worker import Worker
from illume_plugin.generation.stopping import never
from illume_plugin.store import projects


def work(service: Service) -> str:
    """All of a worker's loops, until nobody holds our standard input open any more."""
    worker = Worker(service)
    thread = threading.Thread(target=worker.run, kwargs={"handle_signals": False})
    thread.start()
    say("working")
    sys.stdin.read()
    worker.shut_down()
    thread.join()
    return "worked"


def push(service: Service) -> str:
    """Push what there is to push."""
    with service.store.read() as conn:
        (project,) = projects.every(conn)
    return f"pushed {push_ahead(service, project, everything=True)}"


def reconcile(service: Service) -> str:
    """One round, if one is due and nobody else is at it."""
    return f"found {KeepingStep(service, owner=new_owner(), stop=never).rounds()}"


def run(service: Service) -> str:
    """Carry out the next run, if one is free."""
    ended = Retrain(service, owner=new_owner()).claim_and_run()
    return "run none" if ended is None else f"run {ended.run_id} {ended.state.value}"


STEPS = {each.__name__: each for each in (work, push, reconcile, run)}


def main(options: Mapping[str, Any]) -> None:
    backend.retrain.TrainingChild = Quick  # type: ignore[misc,assignment]
    settings = load_settings(**options["settings"], secret=SECRET, train_after=0)
    service = Service(settings)
    service.engine._generator = SayingGenerator()
    folder = settings.data_dir / f"process-{os.getpid()}"
    folder.mkdir(parents=True)
    service.images = service.sampler.images = OnePicture(folder)  # type: ignore[assignment]
    say(STEPS[options["step"]](service))
    service.close()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
