"""A small Label Studio for tests: what a simulation and a reconciliation ask of it, in memory, over HTTP.

It keeps what matters for doubling and losing: it numbers things and never gives a number again, refuses a
`unique_id` it knows, and sends each event once, before it answers, whether or not anybody takes it.
"""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from operator import eq, gt, le
from typing import Any

import httpx
from flask import Flask, Response, abort, jsonify, request
from werkzeug.serving import WSGIRequestHandler, make_server

TOKEN = "0123456789abcdef0123456789abcdef01234567"
Thing = dict[str, Any]


class SmallLabelStudio:
    """Label Studio's tables as dictionaries, by id."""

    def __init__(self) -> None:
        self.projects: dict[int, Thing] = {}
        self.tasks: dict[int, Thing] = {}
        self.predictions: dict[int, Thing] = {}
        self.annotations: dict[int, Thing] = {}
        self.uploads: dict[int, Thing] = {}
        self.backends: dict[int, Thing] = {}
        self.webhooks: dict[int, Thing] = {}
        #: events that are lost on their way, by action; a count that goes down
        self.lose: dict[str, int] = {}
        self.lock = threading.RLock()
        self.app = _app(self)
        self.http = httpx.Client(timeout=60, trust_env=False, verify=False)
        #: most tasks that one page may hold (TASK_API_PAGE_SIZE_MAX)
        self.page_size_max = 10**9
        #: called before each page of tasks is read, and between finding its tasks and reading their fields
        self.before_page: Callable[[], object] = lambda: None
        self.amid_page: Callable[[], object] = lambda: None
        #: what each page of tasks was asked with
        self.asked: list[dict[str, str]] = []
        self.tells_date = True
        #: seconds since the beginning of its day
        self.clock = 0
        self._ids = itertools.count(1)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @contextmanager
    def running(self) -> Iterator[SmallLabelStudio]:
        server = make_server("127.0.0.1", 0, self.app, threaded=True, request_handler=_Quiet)
        self.port = server.port
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()
            server.server_close()
            self.http.close()

    def add(self, table: dict[int, Thing], **fields: Any) -> Thing:
        with self.lock:
            number = next(self._ids)
            table[number] = {"id": number, **fields}
            return table[number]

    def time(self) -> str:
        """A second later than the last time."""
        with self.lock:
            self.clock += 1
            return self.now.isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"

    @property
    def now(self) -> datetime:
        return datetime(2026, 11, 22, tzinfo=UTC) + timedelta(seconds=self.clock)

    def of(self, table: dict[int, Thing], **wanted: Any) -> list[Thing]:
        """The things of a table with these fields, by id."""
        with self.lock:
            return [one for one in table.values() if all(one.get(k) == v for k, v in wanted.items())]

    def opened(self, task: Thing) -> Thing:
        """A task with all that belongs to it."""
        held = self.of(self.annotations, task=task["id"])
        shown = [{k: v for k, v in one.items() if k != "unique_id"} for one in held]
        predictions = self.of(self.predictions, task=task["id"])
        return {**task, "annotations": shown, "predictions": predictions, "is_labeled": bool(held)}

    def send(self, project_id: int, action: str, **payload: Any) -> None:
        """Send an event to the project's webhooks, once."""
        with self.lock:
            lost = self.lose.get(action, 0) > 0
            self.lose[action] = self.lose.get(action, 0) - 1
        if lost:
            return
        project = self.projects[project_id]
        for hook in self.of(self.webhooks, project=project_id):
            # a listener that is gone: Label Studio writes a line into its log and never tries again
            with suppress(httpx.TransportError):
                body = {"action": action, "project": project, **payload}
                self.http.post(hook["url"], json=body, headers=hook["headers"])

    def annotate(self, task_id: int, **fields: Any) -> Thing:
        """Store an annotation and send its event."""
        task = self.tasks[task_id]
        at = self.time()
        made = self.add(
            self.annotations,
            task=task_id,
            project=task["project"],
            completed_by=1,
            created_at=at,
            updated_at=at,
            **{"was_cancelled": False, **fields},
        )
        self.touch(task_id)
        self.send(task["project"], "ANNOTATION_CREATED", annotation=made, task=task)
        return made

    def edit(self, annotation: Thing, **fields: Any) -> None:
        """Change an annotation and send its event."""
        annotation.update(fields, updated_at=self.time())
        self.touch(annotation["task"])
        task = self.tasks[annotation["task"]]
        self.send(annotation["project"], "ANNOTATION_UPDATED", annotation=annotation, task=task)

    def touch(self, *task_ids: int) -> None:
        """Note that something of these tasks changed: now, all at the same moment."""
        at = self.time()
        for task_id in task_ids:
            self.tasks[task_id]["updated_at"] = at

    def delete_tasks(self, *task_ids: int) -> None:
        """Delete tasks with all that belongs to them; nothing else is noted anywhere."""
        with self.lock:
            project_id = self.tasks[task_ids[0]]["project"]
            for task_id in task_ids:
                del self.tasks[task_id]
                for table in (self.annotations, self.predictions):
                    for one in self.of(table, task=task_id):
                        del table[one["id"]]
        self.send(project_id, "TASKS_DELETED", tasks=[{"id": task_id} for task_id in task_ids])

    def delete_project(self, project_id: int) -> None:
        with self.lock:
            for table in (self.tasks, self.predictions, self.annotations, self.uploads, self.backends):
                for one in self.of(table, project=project_id):
                    del table[one["id"]]
            for hook in self.of(self.webhooks, project=project_id):
                del self.webhooks[hook["id"]]
            del self.projects[project_id]


class _Quiet(WSGIRequestHandler):
    def log_request(self, *_: object) -> None:
        pass


def _app(studio: SmallLabelStudio) -> Flask:
    app = Flask("small label studio")

    @app.before_request
    def check() -> Any:
        if request.path == "/api/version/":
            return None  # told to anybody
        if request.headers.get("Authorization") != f"Token {TOKEN}":
            return jsonify(detail="Invalid token."), 401
        return None

    def body() -> Mapping[str, Any]:
        found: Mapping[str, Any] = request.get_json()
        return found

    def get(table: dict[int, Thing], number: int) -> Thing:
        if number not in table:
            abort(404)
        return table[number]

    @app.after_request
    def date(response: Response) -> Response:
        response.headers["Date"] = format_datetime(studio.now, usegmt=True) if studio.tells_date else "today"
        return response

    @app.errorhandler(404)
    def missing(_: object) -> Any:
        return jsonify(detail="Not found."), 404

    @app.get("/api/version/")
    def version() -> Any:
        return jsonify(release="1.23.2")

    @app.get("/api/current-user/whoami")
    def whoami() -> Any:
        return jsonify(id=1, email="lead@example.com")

    # -- projects --------------------------------------------------------------------------------------

    @app.get("/api/projects/")
    def projects() -> Any:
        title, ids = request.args.get("title", ""), request.args.get("ids")
        found = [p for p in studio.of(studio.projects) if title in p["title"]]
        found = [counted(p) for p in found if ids is None or str(p["id"]) == ids]
        return jsonify(count=len(found), results=found)

    def counted(project: Thing) -> Thing:
        of_it = {"project": project["id"]}
        counts = {
            "task_number": len(studio.of(studio.tasks, **of_it)),
            "total_annotations_number": len(studio.of(studio.annotations, **of_it, was_cancelled=False)),
            "skipped_annotations_number": len(studio.of(studio.annotations, **of_it, was_cancelled=True)),
        }
        return {"label_config": "", **project, **counts}

    @app.post("/api/projects/")
    def create_project() -> Any:
        return jsonify(studio.add(studio.projects, model_version="", **body())), 201

    @app.get("/api/projects/<int:number>/")
    def project(number: int) -> Any:
        return jsonify(counted(get(studio.projects, number)))

    @app.patch("/api/projects/<int:number>/")
    def update_project(number: int) -> Any:
        get(studio.projects, number).update(body(), updated_at=studio.time())
        studio.send(number, "PROJECT_UPDATED")
        return jsonify(studio.projects[number])

    @app.delete("/api/projects/<int:number>/")
    def delete_project(number: int) -> Any:
        get(studio.projects, number)
        studio.delete_project(number)
        return Response(status=204)

    # -- backends and webhooks -------------------------------------------------------------------------

    @app.get("/api/ml/")
    def backends() -> Any:
        return jsonify(studio.of(studio.backends, project=int(request.args["project"])))

    @app.post("/api/ml/")
    def add_backend() -> Any:
        wanted = body()
        get(studio.projects, wanted["project"])
        up = studio.http.get(f"{wanted['url']}/health").is_success
        made = studio.add(studio.backends, **wanted, state="CO" if up else "DI")
        webhook = {"url": f"{wanted['url']}/webhook", "headers": {}, "is_active": True}
        studio.add(studio.webhooks, project=wanted["project"], **webhook, send_payload=True)
        return jsonify(made), 201

    @app.delete("/api/ml/<int:number>")
    def delete_backend(number: int) -> Any:
        del studio.backends[number]
        return Response(status=204)

    @app.get("/api/webhooks/")
    def webhooks() -> Any:
        return jsonify(studio.of(studio.webhooks, project=int(request.args["project"])))

    @app.patch("/api/webhooks/<int:number>/")
    def update_webhook(number: int) -> Any:
        studio.webhooks[number].update(body())
        return jsonify(studio.webhooks[number])

    @app.delete("/api/webhooks/<int:number>/")
    def delete_webhook(number: int) -> Any:
        del studio.webhooks[number]
        return Response(status=204)

    # -- tasks, pictures, predictions ------------------------------------------------------------------

    @app.post("/api/projects/<int:number>/import")
    def import_tasks(number: int) -> Any:
        if request.files:
            assert request.args["commit_to_project"] == "false"
            assert len(request.files) <= 100
            for file in request.files.values():
                made = studio.add(studio.uploads, project=number, content=file.read())
                made["file"] = f"upload/{number}/{made['id']:08d}-{file.filename}"
            return jsonify(task_count=0), 201
        sent: Any = request.get_json()
        at = studio.time()
        made_tasks = [
            studio.add(studio.tasks, project=number, data=one["data"], updated_at=at) for one in sent
        ]
        studio.send(number, "TASKS_CREATED", tasks=made_tasks)
        ids = [one["id"] for one in made_tasks]
        return jsonify(task_count=len(ids), task_ids=ids), 201

    @app.get("/api/projects/<int:number>/file-uploads")
    def file_uploads(number: int) -> Any:
        assert request.args["all"] == "true"
        found = studio.of(studio.uploads, project=number)
        return jsonify([{"id": one["id"], "file": one["file"]} for one in found])

    @app.get("/data/<path:name>")
    def picture(name: str) -> Any:
        (found,) = studio.of(studio.uploads, file=name)
        return Response(found["content"], mimetype="image/png")

    @app.get("/api/tasks/")
    def tasks() -> Any:
        studio.asked.append(dict(request.args))
        studio.before_page()
        query = json.loads(request.args["query"])
        with studio.lock:
            of_project = studio.of(studio.tasks, project=int(request.args["project"]))
            matching = [one for one in of_project if matches(one, query["filters"]["items"])]
            column = query["ordering"][0].removeprefix("-").removeprefix("tasks:")
            # one column orders; among equals Label Studio's database decides
            matching.sort(key=lambda one: one[column], reverse=query["ordering"][0].startswith("-"))
            size = min(int(request.args["page_size"]), studio.page_size_max)
            ids = [one["id"] for one in matching[:size]]
            said = [a for one in matching for a in studio.of(studio.annotations, task=one["id"])]
        studio.amid_page()
        page = [studio.opened(studio.tasks[number]) for number in ids]
        if "include" in request.args:
            wanted = request.args["include"].split(",")
            if request.args["fields"] != "all":
                wanted = [name for name in wanted if name not in ("annotations", "predictions")]
            page = [included(one, wanted) for one in page]
        submitted = sum(not one["was_cancelled"] for one in said)
        return jsonify(tasks=page, total=len(matching), total_annotations=submitted, total_predictions=0)

    def included(task: Thing, wanted: list[str]) -> Thing:
        """Only what is named, of the task and, by the same names, of its annotations."""
        whole = {name: task[name] for name in wanted if name in task}
        if "annotations" in whole:
            said = ({name: one[name] for name in wanted if name in one} for one in whole["annotations"])
            whole["annotations"] = list(said)
        return whole

    def matches(task: Thing, conditions: list[Thing]) -> bool:
        compare = {"greater": gt, "less_or_equal": le, "equal": eq}
        return all(
            compare[one["operator"]](task[one["filter"].removeprefix("filter:tasks:")], one["value"])
            for one in conditions
        )

    @app.get("/api/tasks/<int:number>/")
    def task(number: int) -> Any:
        return jsonify(studio.opened(get(studio.tasks, number)))

    @app.delete("/api/tasks/<int:number>/")
    def delete_task(number: int) -> Any:
        get(studio.tasks, number)
        studio.delete_tasks(number)
        return Response(status=204)

    def predict(sent: Mapping[str, Any]) -> Thing:
        project_id = studio.tasks[sent["task"]]["project"]
        return studio.add(studio.predictions, project=project_id, **sent)

    @app.post("/api/predictions/")
    def prediction() -> Any:
        sent = body()
        studio.touch(sent["task"])  # the bulk endpoint does not
        return jsonify(predict(sent)), 201

    @app.post("/api/projects/<int:number>/import/predictions")
    def predictions(number: int) -> Any:
        sent: Any = request.get_json()
        return jsonify(created=len([predict(one) for one in sent])), 201

    # -- annotations -----------------------------------------------------------------------------------

    @app.post("/api/tasks/<int:number>/annotations/")
    def submit(number: int) -> Any:
        get(studio.tasks, number)
        sent = body()
        with studio.lock:
            if studio.of(studio.annotations, unique_id=sent["unique_id"]):
                return jsonify(detail="Annotation with this unique id already exists."), 409
            made = studio.annotate(number, **sent)
        return jsonify(made), 201

    @app.patch("/api/annotations/<int:number>/")
    def submit_again(number: int) -> Any:
        one = get(studio.annotations, number)
        studio.edit(one, **body())
        return jsonify(one)

    return app
