"""One check of the doctor's: what was looked at, how it went, and what is wrong where something is."""

from __future__ import annotations

from dataclasses import dataclass

from backend.doctor.findings import Finding, Outcome
from illume_plugin.errors import IllumeError
from illume_plugin.types import Json


@dataclass(frozen=True, slots=True)
class Check:
    """One check.

    Attributes:
        name: what was looked at: "token", or "project 12: webhook".
        detail: what was seen, with its value.
        todo: the exact setting or command that mends it; empty where nothing is wrong.
        finding: what is wrong; None where nothing is.
    """

    name: str
    outcome: Outcome
    detail: str
    todo: str = ""
    finding: Finding | None = None

    @property
    def why(self) -> str:
        """Why it matters; empty where nothing is wrong."""
        return self.finding.why if self.finding else ""

    def to_json(self) -> dict[str, Json]:
        """For programs."""
        return {
            "check": self.name,
            "outcome": self.outcome.value,
            "finding": self.finding.label if self.finding else None,
            "detail": self.detail,
            "why": self.why,
            "todo": self.todo,
        }


def good(name: str, detail: str) -> Check:
    """Nothing is wrong."""
    return Check(name, Outcome.OK, detail)


def found(name: str, finding: Finding, detail: str, *, todo: str = "", project: int | None = None) -> Check:
    """Something is wrong.

    Args:
        todo: what mends it here; otherwise what mends it in general.
        project: number to put into the command that mends it.
    """
    mend = todo or finding.mend
    if project is not None:
        mend = mend.replace("--project N", f"--project {project}")
    return Check(name, finding.outcome, detail, mend, finding)


def of_error(name: str, finding: Finding, error: IllumeError, *, project: int | None = None) -> Check:
    """Something is wrong that an error tells, with its own advice where it has some."""
    detail = " ".join(part for part in (error.what, error.why) if part)
    return found(name, finding, detail, todo=error.todo, project=project)
