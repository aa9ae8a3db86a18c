"""An event that was answered is kept, whenever the listener is killed: its answer comes after the commit."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import select

from backend.settings import SECRET_HEADER
from illume_plugin.store import Store
from illume_plugin.store.tables import events

SECRET = "a-secret-for-tests"
CLIENTS, KILLS, ANSWERS = 8, 3, 60
PROCESS = Path(__file__).with_name("listening_process.py")


@contextmanager
def listening(folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    settings = {"data_dir": str(folder), "secret": SECRET, "train_after": 0}
    words = [sys.executable, str(PROCESS), json.dumps(settings)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, f"http://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.kill()


def until_it_is_killed(folder: Path, numbers: Iterator[int]) -> set[int]:
    """Numbers of the events that were answered before the kill, which comes amid the storm."""
    answered: set[int] = set()
    enough = threading.Event()

    def send(url: str) -> None:
        with httpx.Client(headers={SECRET_HEADER: SECRET}, timeout=30, trust_env=False) as http:
            while True:
                body: dict[str, Any] = {"action": "SOMETHING", "number": next(numbers)}
                try:
                    taken = http.post(f"{url}/webhook", json=body).status_code == 201
                except httpx.TransportError:
                    return
                assert taken
                answered.add(body["number"])
                if len(answered) >= ANSWERS:
                    enough.set()

    with listening(folder) as (process, url):
        threads = [threading.Thread(target=send, args=(url,)) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        assert enough.wait(120)
        process.kill()
        for thread in threads:
            thread.join(60)
    return answered


def test_what_was_answered_is_there_after_every_kill(tmp_path: Path) -> None:
    numbers = itertools.count()
    answered: set[int] = set()
    for _ in range(KILLS):
        answered |= until_it_is_killed(tmp_path, numbers)
        store = Store(f"sqlite:///{tmp_path}/illume.sqlite3")
        with store.read() as conn:
            kept = [body["number"] for body in conn.execute(select(events.c.body)).scalars()]
        store.close()
        assert answered <= set(kept)
        assert len(kept) == len(set(kept))
        # a call that was under way when the kill came may or may not have been kept
        assert len(kept) - len(answered) <= CLIENTS * KILLS
