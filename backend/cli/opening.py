"""What every command opens first: the settings, the service, and the project that is meant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from illume_plugin.errors import BadRequestError, NotFoundError

if TYPE_CHECKING:
    from backend.service import Service

project_option = click.option(
    "--project", "project_id", type=click.IntRange(min=1), metavar="N", help="Label Studio's project number."
)


def open_service(**overrides: Any) -> Service:
    """The service made from the settings."""
    from backend.service import Service
    from backend.settings import load_settings

    return Service(load_settings(**overrides))


def which_project(service: Service, project_id: int | None) -> int:
    """The project meant: the given one, or the only one there is.

    Raises:
        NotFoundError: it is not connected, or none is.
        BadRequestError: none was named and there are several.
    """
    from illume_plugin.store import projects

    with service.store.read() as conn:
        if project_id is not None:
            return projects.get(conn, project_id).project_id
        known = projects.every(conn)
    if not known:
        raise NotFoundError("No project is connected.", todo="Run: illume connect --project N")
    if len(known) > 1:
        names = ", ".join(f"{one.project_id} ({one.title})" for one in known)
        raise BadRequestError(f"Several projects are connected: {names}.", todo="Name one with --project N.")
    return known[0].project_id
