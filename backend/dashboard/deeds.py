"""What a page asks to be confirmed, and what it says when it is done."""

from __future__ import annotations

from dataclasses import dataclass, field

from flask import flash, redirect, request, url_for
from werkzeug.wrappers import Response

from backend.dashboard import forms
from backend.dashboard.board import board
from backend.dashboard.pages import show
from illume_plugin.errors import ConflictError


@dataclass(frozen=True, slots=True)
class Deed:
    """What a page asks to be confirmed.

    Attributes:
        effects: what will happen, a sentence each.
        then: where the form goes.
        fields: what it carries along.
        why: whether a reason is asked for: "", "optional" or "required".
    """

    title: str
    effects: tuple[str, ...]
    button: str
    then: str
    back: str
    fields: dict[str, str] = field(default_factory=dict)
    why: str = ""


def confirm(project_id: int, deed: Deed) -> str:
    """The page with the form that does it."""
    return show("confirm.html", project_id, deed=deed, token_field=forms.FIELD, token=forms.token())


def done(project_id: int, page: str, said: str) -> Response:
    """Go to a page, which says what was done."""
    board().kept.forget()
    flash(said)
    return redirect(url_for(f"dashboard.pages.{page}", project_id=project_id), code=303)


def why() -> str:
    """The reason that was typed in, one line."""
    return " ".join(request.form.get("why", "").split())[:300]


def check_expected(project_id: int) -> None:
    """Make sure that the version that serves is the one that the confirmed page told of.

    Raises:
        ConflictError: it is not.
    """
    expected, active = request.form.get("expected", ""), board().project(project_id).active_version
    if expected != active:
        raise ConflictError(
            f"{active} serves by now, not {expected or 'what your page said'}.",
            why="Somebody was faster, or a run has ended meanwhile; nothing was changed.",
            todo="Look at the versions again.",
        )
