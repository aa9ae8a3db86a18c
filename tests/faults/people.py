"""What people do in the real Label Studio while everything else is killed."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import httpx
from live.test_reconcile_live import People, result

from faults.patience import rest

#: Fewer tasks than so many are added to, and with so many nobody adds any more.
FEWEST, MOST = 8, 24


class Annotators(People):
    """People whose tasks have pictures that can be fetched, each task another address."""

    def __init__(
        self, http: httpx.Client, project_id: int, rng: random.Random, data: Sequence[dict[str, Any]]
    ) -> None:
        super().__init__(http, project_id, rng)
        self.of_tasks = list(data)
        self.number = 0
        self.done: Counter[str] = Counter()
        self._seen: list[dict[str, Any]] | None = None

    def shown(self) -> list[dict[str, Any]]:
        """As it was when somebody began to act: one look for each thing that is done."""
        if self._seen is None:
            self._seen = super().shown()
        return self._seen

    def data(self) -> dict[str, Any]:
        """A task of the picture world, under an address that nobody has asked for yet."""
        self.number += 1
        chosen = self.of_tasks[self.number % len(self.of_tasks)]
        return {**chosen, "image": f"{chosen['image']}&n={self.rng.getrandbits(48)}"}

    def import_tasks(self) -> None:
        some = [
            {"data": self.data(), **({"annotations": [self.said()]} if self.rng.random() < 0.3 else {})}
            for _ in range(self.rng.randrange(2, 5))
        ]
        self.call("POST", f"/api/projects/{self.project_id}/import", json=some)

    def change_data(self) -> None:
        self.call("PATCH", f"/api/tasks/{self.one(self.tasks())}/", json={"data": self.data()})

    def said(self) -> dict[str, Any]:
        ticks = self.rng.choice([["c1"], ["c2"], ["none"], ["c1", "c2"]])
        return {"result": result(ticks), "lead_time": self.rng.randrange(1, 90) / 2}

    def act(self) -> None:
        """One thing, by chance; submitting most often."""
        self._seen = None
        tasks = len(self.tasks())
        if tasks < FEWEST:
            return self._do(self.import_tasks)
        often: list[Callable[[], None]] = [self.submit] * 6 + [self.edit] * 3
        seldom: list[Callable[[], None]] = [
            self.edit_twice, self.skip, self.skip_what_was_submitted, self.convert_to_draft,
            self.delete_annotation, self.delete_task, self.change_data, self.delete_annotations_of_some,
        ]  # fmt: skip
        more = [self.import_tasks] * (3 if tasks < MOST else 0)
        return self._do(self.rng.choice([*often, *seldom, *more]))

    def _do(self, what: Callable[[], None]) -> None:
        try:
            what()
        except httpx.HTTPError as error:
            # Label Studio's own database is busy, or the thing has just been deleted: it says what is there
            self.done[f"refused: {what.__name__}: {str(error)[:60]}"] += 1
        else:
            self.done[what.__name__] += 1


class AtWork:
    """A thread in which people act, until the block ends."""

    def __init__(self, people: Annotators, *, pause_s: float) -> None:
        self._people = people
        self._pause_s = pause_s
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.error: Exception | None = None

    def __enter__(self) -> AtWork:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
        if self.error is not None:
            raise self.error

    def _run(self) -> None:
        try:
            while not self._end.is_set():
                self._people.act()
                rest(self._people.rng.uniform(0, 2 * self._pause_s), until=self._end.is_set)
        except Exception as error:  # noqa: BLE001 - raised where the block ends
            self.error = error
