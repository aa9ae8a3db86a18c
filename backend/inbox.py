"""Events on their way into the store: those that come at the same time are kept by one commit.

A commit waits for the disk, milliseconds, and SQLite does one after the other. Label Studio hangs up after a
second and sends an event once, so in a storm it is the number of commits that decides what arrives. No event
is answered before it is on the disk (docs/adr/0019).
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from illume_plugin.errors import UnavailableError
from illume_plugin.fault_points import point
from illume_plugin.store import Store, events


class Inbox:
    """Keeps events. Safe to share between threads; has none of its own.

    Whoever comes while nobody writes does so, for all who wait by then, and passes the pen on to the first of
    those who came meanwhile.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._waiting: list[_Letter] = []
        self._writing = False

    def keep(self, row: Mapping[str, Any]) -> bool:
        """Keep one event durably; returns False when exactly this event is here already.

        Args:
            row: as `events.row` makes it.

        Raises:
            UnavailableError: the database does not answer; nothing is kept.
        """
        letter = _Letter(row)
        with self._lock:
            self._waiting.append(letter)
            writes, self._writing = not self._writing, True
        if writes or letter.is_to_write():
            self._write()
        return letter.is_new()

    def _write(self) -> None:
        with self._lock:
            letters, self._waiting = self._waiting, []
        try:
            self._deliver(letters)
        finally:
            for letter in letters:
                letter.hand_out()
            with self._lock:
                if self._waiting:
                    self._waiting[0].pass_pen()
                else:
                    self._writing = False

    def _deliver(self, letters: Sequence[_Letter]) -> None:
        """Commit all of them, or each by itself where one of them makes the database refuse the others."""
        try:
            kept = self._commit([letter.row for letter in letters])
        except UnavailableError as error:
            for letter in letters:
                letter.problem = error
        except SQLAlchemyError as error:
            if len(letters) == 1:
                letters[0].problem = error
                return
            for letter in letters:
                self._deliver([letter])
        else:
            for letter, new in zip(letters, kept, strict=True):
                letter.new = new

    def _commit(self, rows: Sequence[Mapping[str, Any]]) -> list[bool]:
        with self._store.write() as conn:
            kept = events.append_rows(conn, rows)
            point("intake.before_commit")
        point("intake.after_commit")
        return kept


class _Letter:
    """One event, and what becomes of it."""

    def __init__(self, row: Mapping[str, Any]) -> None:
        self.row = row
        self.new: bool | None = None
        self.problem: Exception | None = None
        self._has_pen = False
        self._told = threading.Event()

    def pass_pen(self) -> None:
        """Have its thread write for those who wait, itself among them."""
        self._has_pen = True
        self._told.set()

    def hand_out(self) -> None:
        """Tell its thread what became of it."""
        self._told.set()

    def is_to_write(self) -> bool:
        """Wait; whether the thread got the pen, and not yet an outcome."""
        self._told.wait()
        return self._has_pen

    def is_new(self) -> bool:
        """The outcome.

        Raises:
            UnavailableError, SQLAlchemyError: it is not kept.
        """
        if self.problem is not None:
            raise self.problem
        if self.new is None:
            raise UnavailableError(
                "The event was not kept.", why="The thread that was to write it was ended."
            )
        return self.new
