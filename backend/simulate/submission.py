"""What Label Studio sends when somebody presses Submit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from illume_plugin.label_config import FITS, NONE_FITS
from illume_plugin.types import Json

_BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def submission(
    project_id: int,
    task_id: int,
    data: Mapping[str, Json],
    prediction: Mapping[str, Json],
    ticks: Sequence[bool],
    *,
    annotation_id: int,
    annotator: int,
) -> dict[str, Json]:
    """The webhook body for an annotation made from a prediction by ticking some of its candidates.

    Its time follows from the annotation's number, so that the same submission is the same event however
    often it is sent.

    Args:
        prediction: as the backend gives it to Label Studio.
        ticks: one for each candidate, in display order; without any, "none fits" is ticked.
        annotator: user id.
    """
    at = (_BEGIN + timedelta(seconds=annotation_id)).isoformat().replace("+00:00", "Z")
    return {
        "action": "ANNOTATION_CREATED",
        "annotation": {
            "id": annotation_id,
            "task": task_id,
            "project": project_id,
            "created_at": at,
            "updated_at": at,
            "result": ticked(prediction, ticks),
            "was_cancelled": False,
            "ground_truth": False,
            "completed_by": annotator,
        },
        "project": {"id": project_id},
        "task": {"id": task_id, "data": dict(data), "updated_at": at},
    }


def ticked(prediction: Mapping[str, Json], ticks: Sequence[bool]) -> list[dict[str, Json]]:
    """The result of an annotation made from a prediction by ticking some of its candidates.

    Args:
        prediction, ticks: see `submission`.
    """
    (shown,) = prediction["result"]
    if len(ticks) != len(shown["value"]["text"]):
        raise ValueError(f"{len(ticks)} ticks for {len(shown['value']['text'])} candidates.")
    chosen = [f"c{row}" for row, tick in enumerate(ticks, start=1) if tick]
    fits = {
        "id": "fits",
        "from_name": FITS,
        "to_name": shown["to_name"],
        "type": "choices",
        "value": {"choices": chosen or [NONE_FITS]},
        "origin": "manual",
    }
    return [{**shown, "origin": "prediction"}, fits]
