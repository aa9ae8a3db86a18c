"""What pushing predictions has cost in each project so far, to take the cheaper way the next time."""

from __future__ import annotations

import threading

#: Until a project's cost is known so many go one by one: a bulk request may cost minutes whatever its size.
HANDFUL = 10
#: Seconds that one prediction takes of Label Studio: on its own, and within a bulk request.
ALONE_S, WITHIN_S = 0.12, 0.0012


class PushCosts:
    """Seconds by project, newest first of all. Safe to share between threads.

    A bulk request makes Label Studio recount the whole project, unless it is told not to: from 2 s in one of
    10,000 tasks to 205 s in one of 100,000. Nothing but a request tells.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._recount_s: dict[int, float] = {}
        self._alone_s = ALONE_S

    def one_by_one(self, project_id: int, number: int) -> bool:
        """Whether so many predictions had better go one by one."""
        with self._lock:
            recount_s = self._recount_s.get(project_id)
            if recount_s is None:
                return number <= HANDFUL
            return number * self._alone_s < recount_s + number * WITHIN_S

    def note_bulk(self, project_id: int, number: int, seconds: float) -> None:
        """A bulk request of so many took so long."""
        with self._lock:
            self._recount_s[project_id] = max(0.0, seconds - number * WITHIN_S)

    def note_each(self, number: int, seconds: float) -> None:
        """So many took so long, one by one."""
        with self._lock:
            self._alone_s = seconds / number
