"""Candidate sets in the store without a model: ten rationales for each task, as sampling would leave them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from sqlalchemy import insert

from backend.service import Service
from illume_plugin.predictions import arrange
from illume_plugin.store.tables import candidate_sets
from illume_plugin.types import BASE_VERSION, Candidate

_AT_A_TIME = 1000


def texts(number: int) -> list[str]:
    """The rationales of the task with this number."""
    return [f"because thing number {k} in picture {number} is round and blue" for k in range(1, 11)]


def keep(service: Service, project_id: int, task_ids: Sequence[int]) -> None:
    """Keep candidates of the base model for these tasks, which Label Studio has not been given yet."""
    for begin in range(0, len(task_ids), _AT_A_TIME):
        with service.store.write() as conn:
            rows = [_row(service, project_id, number) for number in task_ids[begin : begin + _AT_A_TIME]]
            conn.execute(insert(candidate_sets), rows)


def _row(service: Service, project_id: int, number: int) -> dict[str, object]:
    drawn = [Candidate(text, 0.7, k, logprob_mean=-1.0, i2c=0.5) for k, text in enumerate(texts(number))]
    plan = service.plan.hash
    made = arrange(drawn, project_id=project_id, task_id=number, version=BASE_VERSION, plan=plan)
    return {
        "project_id": project_id,
        "task_id": number,
        "version": made.version,
        "plan": plan,
        "order_seed": made.order_seed,
        "score": made.score,
        "candidates": [asdict(one) for one in made.candidates],
        "created_at": 1.0,
        "pushed_at": None,
        "dropped": {},
    }
