"""P5: events stored durably in a storm of 16 clients, against the official app, which stores none.

Ours runs as `illume serve` starts it, without a worker, once it has loaded its model. An answer means that
SQLite has had the event written through to the disk (WAL, synchronous=FULL), and at the end as many events
are in the store as were answered.
The official app starts a process for each event and answers before that has run.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
from backend_process import backend_process, free_port, python_process
from figures import Figure, LeftOutError, figure, in_turns, quantile
from http_load import Answer, Client, request, under_load
from service_setting import ServiceSetting
from sqlalchemy import func, select

import label_config
from backend.cli.serve import THREADS
from illume_plugin.store import Store, projects
from illume_plugin.store.tables import events

PROJECT, SECRET = 1, "only-for-benchmarks"
CLIENTS = 16
GOAL_EVENTS, GOAL_MS = 1000.0, 50.0
#: The peer forks at each event: a longer window would measure the machine's limit of processes.
PEER_SECONDS = 2.0
CREATED = 201
LOADED_WITHIN_S, AT_REST_PERCENT = 180.0, 5.0


@dataclass(frozen=True)
class Window:
    """What one server did for some seconds."""

    answers: list[Answer]

    @property
    def kept(self) -> int:
        """Answers that say that the event was taken."""
        return sum(answer.status == CREATED for answer in self.answers)

    @property
    def rate(self) -> float:
        """Events taken in a second."""
        begin, end = min(a.begin for a in self.answers), max(a.end for a in self.answers)
        return self.kept / (end - begin)

    def ms(self, share: float) -> float:
        """The answer's time that this share of the answers kept below, milliseconds."""
        return quantile([answer.ms for answer in self.answers], share)


def event(number: int) -> dict[str, Any]:
    """An annotation of ten candidates with all that Label Studio sends with it: twelve kilobytes."""
    texts = [f"because thing number {k} in picture {number} is round and blue" for k in range(1, 11)]
    meta = {"illume": {"model_version": "v0000", "texts": texts, "order_seed": number}}
    now = "2026-11-22T10:00:00.000000Z"
    who = {"id": 1, "first_name": "", "last_name": "", "email": "one@example.com", "avatar": None}
    return {
        "action": "ANNOTATION_CREATED",
        "annotation": {
            "id": number,
            "completed_by": who,
            "result": [
                {
                    "id": "cand",
                    "from_name": "cand",
                    "to_name": "image",
                    "type": "textarea",
                    "origin": "manual",
                }
                | {"value": {"text": texts}, "meta": meta},
                {"id": "fits", "from_name": "fits", "to_name": "image", "type": "choices", "origin": "manual"}
                | {"value": {"choices": ["c1", "c4", "c7"]}},
            ],
            "was_cancelled": False,
            "ground_truth": False,
            "created_at": now,
            "updated_at": now,
            "lead_time": 12.5,
            "task": number,
            "project": PROJECT,
            "unique_id": f"{number:032x}",
        },
        "project": {
            "id": PROJECT,
            "title": "benchmark",
            "label_config": label_config.read("select"),
            "created_by": who,
            "updated_at": now,
        },
        "task": {
            "id": number,
            "data": {"image": f"/data/upload/1/{number}.png", "question": "what is it?", "answer": "a ball"},
            "updated_at": now,
            "is_labeled": True,
            "overlap": 1,
            "inner_id": number,
        },
    }


def measure(setting: ServiceSetting) -> dict[str, Figure]:
    """P5 (events in a second) and P5_p99 (milliseconds of the slowest in a hundred)."""
    with TemporaryDirectory(prefix="illume-p5-") as name, ExitStack() as stack:
        folder = Path(name)
        ours = stack.enter_context(_ours(folder / "ours"))
        peer = stack.enter_context(_peer(folder / "peer"))
        others, own = in_turns(
            peer.storm,
            lambda: ours.storm(setting.seconds),
            setting.repeats,
        )
    return figures(own, others)


def measure_postgresql(setting: ServiceSetting) -> dict[str, Figure]:
    """P5_postgresql: the same on a PostgreSQL server with its usual durability, without a peer."""
    with ExitStack() as stack:
        name, url = (
            stack.enter_context(TemporaryDirectory(prefix="illume-p5-")),
            stack.enter_context(_postgresql()),
        )
        ours = stack.enter_context(_ours(Path(name) / "ours", database_url=url))
        windows = [ours.storm(setting.seconds) for _ in range(setting.repeats + 1)][1:]
    detail = {
        "what": "the same on PostgreSQL (fsync on), events a second",
        "clients": CLIENTS,
        "p50_ms": [one.ms(0.5) for one in windows],
        "p99_ms": [one.ms(0.99) for one in windows],
    }
    return {"P5_postgresql": figure([one.rate for one in windows], goal=GOAL_EVENTS, detail=detail)}


def storm(port: int, *, seconds: float, clients: int = CLIENTS) -> Window:
    """All clients send events that nobody sent before, one after the other."""
    senders = [Client("event", _requests(), 0.0) for _ in range(clients)]
    return Window(under_load(port, senders, seconds=seconds)["event"])


_numbers = itertools.count(1)


def _requests() -> Iterator[bytes]:
    return (request("POST", "/webhook", event(number), secret=SECRET) for number in _numbers)


def figures(own: list[Window], others: list[Window]) -> dict[str, Figure]:
    """Both figures of what was measured."""
    detail = {
        "clients": CLIENTS,
        "p50_ms": [one.ms(0.5) for one in own],
        "p99_ms": [one.ms(0.99) for one in own],
        "events": sum(one.kept for one in own),
        "peer_rate": [one.rate for one in others],
        "peer_p50_ms": [one.ms(0.5) for one in others],
        "peer_p99_ms": [one.ms(0.99) for one in others],
        "peer": "label-studio-ml 1.0.9, a process forked for each event, nothing stored",
    }
    rate = detail | {"what": "webhook events stored durably in a second (SQLite), 16 clients"}
    slow = detail | {"what": "ms until the slowest in a hundred of these events is stored and answered"}
    return {
        "P5": figure([one.rate for one in own], goal=GOAL_EVENTS, detail=rate),
        "P5_p99": figure([one.ms(0.99) for one in own], goal=GOAL_MS, detail=slow, higher_is_better=False),
    }


@dataclass(frozen=True)
class _Ours:
    """Our backend, and the store behind it."""

    port: int
    store: Store

    def storm(self, seconds: float) -> Window:
        """A storm of which every event is answered and stored.

        Raises:
            RuntimeError: some are not.
        """
        before = self._stored()
        window = storm(self.port, seconds=seconds)
        stored = self._stored() - before
        if not len(window.answers) == window.kept == stored:
            raise RuntimeError(f"{len(window.answers)} sent, {window.kept} taken, {stored} stored.")
        return window

    def _stored(self) -> int:
        with self.store.read() as conn:
            return int(conn.execute(select(func.count()).select_from(events)).scalar_one())


@contextmanager
def _ours(folder: Path, **more: Any) -> Iterator[_Ours]:
    data = folder / "data"
    data.mkdir(parents=True)
    given = {"data_dir": data, "secret": SECRET, "port": free_port(), "train_after": 0, **more}
    with backend_process(given, folder / "backend.log") as process:
        _let_load(psutil.Process(process.pid))
        store = Store(str(more.get("database_url", f"sqlite:///{data}/illume.sqlite3")))
        try:
            with store.write() as conn:
                config = label_config.read("select")
                projects.put(conn, PROJECT, title="benchmark", label_config=config, now=1)
            yield _Ours(given["port"], store)
        finally:
            store.close()


def _let_load(process: psutil.Process) -> None:
    """Wait until it has nothing to do: after its start it loads the model, which takes its threads' turns.

    Raises:
        RuntimeError: it does not come to rest.
    """
    until = time.monotonic() + LOADED_WITHIN_S
    while process.cpu_percent(interval=1.0) > AT_REST_PERCENT:
        if time.monotonic() > until:
            raise RuntimeError(f"The backend is not at rest after {LOADED_WITHIN_S:.0f} s.")


@contextmanager
def _postgresql() -> Iterator[str]:
    """URL of an empty database on a server that the tests start as well; here it waits for the disk.

    Raises:
        LeftOutError: PostgreSQL's server is not installed.
    """
    sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
    from postgresql import PostgresqlMissingError, Server, program

    try:
        program("postgres")
    except PostgresqlMissingError as missing:
        raise LeftOutError(str(missing)) from missing
    with Server(durable=True) as server:
        yield server.create(migrated=False)


@dataclass(frozen=True)
class _Peer:
    """The official app."""

    port: int
    process: psutil.Process

    def storm(self) -> Window:
        """A storm, and the end of the processes that it has started: they are no load of ours."""
        window = storm(self.port, seconds=PEER_SECONDS)
        while any(map(_runs, self.process.children())):
            time.sleep(0.1)
        return window


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@contextmanager
def _peer(folder: Path) -> Iterator[_Peer]:
    folder.mkdir()
    port = free_port()
    words = [str(Path(__file__).with_name("official_app.py")), str(port), str(THREADS), str(folder / "jobs")]
    with python_process(words, port, folder / "peer.log", {}) as process:
        yield _Peer(port, psutil.Process(process.pid))
