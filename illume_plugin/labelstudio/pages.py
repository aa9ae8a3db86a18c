"""One page of a project's tasks, asked for and checked: what cannot be Label Studio's answer is an error."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

from illume_plugin.errors import BadRequestError, LabelStudioError
from illume_plugin.preferences import TaskNow, Totals, read_task_now
from illume_plugin.types import Json

#: Label Studio recounts what matches at each question: seconds in a project of a million tasks.
PAGE_TIMEOUT_S = 60.0
#: Label Studio picks the fields of a task and of what lies within it by one list of names.
_OF_TASK = "id,data,updated_at,annotations"
_OF_ANNOTATION = "task,result,was_cancelled,completed_by,lead_time"
#: What an answer's `Date` leaves out, seconds.
_DATE_STEP_S = 1.0


@dataclass(frozen=True, slots=True)
class Where:
    """Which tasks to ask for. By id; with `after` or `newest` by `updated_at`.

    Attributes:
        after: changed later than this moment; "" asks nothing of the time.
        at: changed at exactly this moment.
        above: with a greater id.
        up_to: with this or a lesser id.
        newest: last changed first.
        last: greatest id first.
        ids_only: leave out what belongs to the tasks, for counting.
    """

    after: str | None = None
    at: str = ""
    above: int = 0
    up_to: int | None = None
    newest: bool = False
    last: bool = False
    ids_only: bool = False

    def query(self) -> str:
        """As Label Studio's Data Manager takes it."""
        asked = [
            ("updated_at", "greater", "Datetime", self.after),
            ("updated_at", "equal", "Datetime", self.at),
            ("id", "greater", "Number", self.above),
            ("id", "less_or_equal", "Number", self.up_to),
        ]
        items = [
            {"filter": f"filter:tasks:{column}", "operator": operator, "type": kind, "value": value}
            for column, operator, kind, value in asked
            if value
        ]
        query = {"filters": {"conjunction": "and", "items": items}, "ordering": [self._ordering()]}
        return json.dumps(query, separators=(",", ":"))

    def holds(self, task: TaskNow) -> bool:
        """Whether a task may stand in the answer: one that changed since it was found may be newer."""
        above, below = task.task_id > self.above, self.up_to is None or task.task_id <= self.up_to
        return above and below and task.updated_at > (self.after or "") and task.updated_at >= self.at

    def _ordering(self) -> str:
        if self.newest:
            return "-tasks:updated_at"
        if self.last:
            return "-tasks:id"
        return "tasks:id" if self.after is None else "tasks:updated_at"


@dataclass(frozen=True, slots=True)
class Page:
    """The first tasks of those asked for.

    Attributes:
        total: tasks that match.
        submitted: annotations of the tasks that match, less the skipped ones.
        last_id: of the last task on the page; 0 where there is none.
        asked_at: a moment on Label Studio's clock shortly before it looked, UTC text; "" where it does not
            tell.
    """

    tasks: tuple[TaskNow, ...]
    total: int
    submitted: int
    last_id: int = 0
    asked_at: str = ""

    @property
    def complete(self) -> bool:
        """Whether no further task matches."""
        return len(self.tasks) >= self.total


@dataclass(frozen=True, slots=True)
class ProjectNow:
    """A project's title, configuration and totals at this moment."""

    title: str
    label_config: str = field(repr=False)
    totals: Totals


def read_page(http: httpx.Client, project_id: int, where: Where, size: int) -> Page:
    """Ask for one page.

    Raises:
        LabelStudioError: no answer, a refusal, or an answer that is not about what was asked.
    """
    asked: dict[str, str | int] = {
        "project": project_id,
        "page_size": size,
        # `fields` lets annotations in; `include` leaves out the rest, which takes four times as long
        "fields": "task_only" if where.ids_only else "all",
        "include": "id" if where.ids_only else f"{_OF_TASK},{_OF_ANNOTATION}",
        "resolve_uri": "false",
        "query": where.query(),
    }
    began = time.monotonic()
    answer = http.get("api/tasks/", params=asked, timeout=PAGE_TIMEOUT_S)
    took = time.monotonic() - began
    body = _body(answer)
    total, submitted = (_count(body, name) for name in ("total", "total_annotations"))
    listed = _listed(body)
    tasks = () if where.ids_only else _tasks(project_id, listed)
    if len(tasks) > size or not all(where.holds(task) for task in tasks):
        raise _nonsense("with other tasks than those asked for")
    last_id = _count(listed[-1], "id") if listed else 0
    asked_at = _asked_at(answer.headers.get("date", ""), took)
    return Page(tasks, total, submitted, last_id, asked_at)


def read_project(http: httpx.Client, project_id: int) -> ProjectNow:
    """A project's state; the counts that nobody needs are left out, which halves the time.

    Raises:
        LabelStudioError: as read_page.
    """
    names = "id,title,label_config,task_number,total_annotations_number,skipped_annotations_number"
    answer = http.get(f"api/projects/{int(project_id)}/", params={"include": names}, timeout=PAGE_TIMEOUT_S)
    body = _body(answer)
    counts = [_count(body, name) for name in names.split(",")[3:]]
    title, label_config = body.get("title"), body.get("label_config")
    if not isinstance(title, str) or not isinstance(label_config, str):
        raise _nonsense("without the project's title or labelling configuration")
    return ProjectNow(title, label_config, Totals(*counts))


def _body(answer: httpx.Response) -> Mapping[str, Json]:
    try:
        body = answer.json()
    except ValueError as error:
        raise _nonsense("with something that is no JSON") from error
    if not isinstance(body, Mapping):
        raise _nonsense(f"with {type(body).__name__} in place of an object")
    return body


def _listed(body: Mapping[str, Json]) -> list[Json]:
    tasks = body.get("tasks")
    if isinstance(tasks, list):
        return tasks
    raise _nonsense("without a list of tasks")


def _tasks(project_id: int, listed: list[Json]) -> tuple[TaskNow, ...]:
    try:
        return tuple(read_task_now(project_id, task) for task in listed)
    except BadRequestError as error:
        raise _nonsense(f"with something that is no task ({error.what.rstrip('.')})") from error


def _count(body: Json, name: str) -> int:
    found = body.get(name) if isinstance(body, Mapping) else None
    if isinstance(found, int) and not isinstance(found, bool) and found >= 0:
        return found
    raise _nonsense(f"without {name} ({found!r:.40})")


def _asked_at(date: str, took_s: float) -> str:
    try:
        answered = parsedate_to_datetime(date).astimezone(UTC).timestamp()
    except (TypeError, ValueError):
        return ""
    asked = datetime.fromtimestamp(answered - took_s - _DATE_STEP_S, UTC)
    return asked.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def _nonsense(how: str) -> LabelStudioError:
    return LabelStudioError(
        f"Label Studio answered {how}.",
        why="Nothing of this answer was used, and nothing is taken for deleted because of it.",
        todo="See that ILLUME_LABEL_STUDIO_URL is Label Studio's own address.",
    )
