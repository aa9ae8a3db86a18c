"""The simulation's own backend: it listens while the simulation runs, connected to the one project."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit, urlunsplit

from werkzeug.serving import WSGIRequestHandler, make_server

from backend.app import create_app
from backend.connect import Connector, check_reachable
from backend.service import Service
from backend.settings import Settings
from backend.simulate.labelstudio.door import SimulationDoor
from backend.simulate.progress import Say
from illume_plugin.errors import LabelStudioError, SettingsError
from illume_plugin.labelstudio import ProjectInfo
from illume_plugin.labelstudio.failures import PRIVATE_ADDRESS_LINES
from illume_plugin.store import events

#: How long an event may take, seconds. Without a queue of its own Label Studio delivers before it answers.
ARRIVES_WITHIN_S = 60.0
_LOOK_S = 0.1


def on_port(settings: Settings, port: int | None) -> Settings:
    """The settings with another port to listen on, in our address for Label Studio too."""
    if port is None:
        return settings
    url = urlsplit(settings.backend_url)
    host = f"[{url.hostname}]" if ":" in (url.hostname or "") else url.hostname
    address = urlunsplit(url._replace(netloc=f"{host}:{port}"))
    return settings.model_copy(update={"port": port, "backend_url": address})


@contextmanager
def listening(service: Service) -> Iterator[None]:
    """Answer Label Studio as `illume serve` does, in a thread, until the block ends.

    Raises:
        SettingsError: the address cannot be listened on.
    """
    settings = service.settings
    app = create_app(settings, service=service)
    with _bound(settings) as bound:
        # not waitress, which cannot be stopped from another thread
        server = make_server(
            settings.host,
            settings.port,
            app,
            threaded=True,
            request_handler=_Quiet,
            fd=bound.fileno(),
        )
        thread = threading.Thread(target=server.serve_forever, args=(_LOOK_S,), name="listener")
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


class _Quiet(WSGIRequestHandler):
    """Logs no line per request."""

    def log_request(self, *_: object) -> None:
        pass


def _bound(settings: Settings) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        return socket.create_server((settings.host, settings.port), family=family)
    except OSError as error:
        raise SettingsError(
            f"Cannot listen on {settings.host}:{settings.port} ({os.strerror(error.errno or 0)}).",
            why="Another program has the port (`illume serve`?), or the address is not this machine's.",
            todo="Give a free one with --port, or set ILLUME_PORT and ILLUME_BACKEND_URL.",
        ) from error


def connect(service: Service, door: SimulationDoor, project_id: int, say: Say) -> None:
    """Connect the project to us, and to nobody else, as `illume connect` does.

    Raises:
        LabelStudioError: Label Studio refuses, or does not get through to us.
    """
    _disconnect_others(service, door, project_id)
    # what is to be proved is that events arrive
    for change in Connector(service, door, project_id, annotations=False).changes():
        say(change.text)
        change.apply()
    check_reachable(door, project_id, service.settings.backend_url)


def _disconnect_others(service: Service, door: SimulationDoor, project_id: int) -> None:
    """Forget the addresses under which earlier processes of this simulation listened."""
    ours = service.settings.backend_url
    for backend in door.backends(project_id):
        if backend.url.rstrip("/") != ours:
            door.delete_backend(backend.backend_id)
    for hook in door.webhooks(project_id):
        if hook.url != f"{ours}/webhook":
            door.delete_webhook(hook.webhook_id)


def prove_webhook(service: Service, door: SimulationDoor, project: ProjectInfo) -> None:
    """Make sure that events reach us before anybody spends minutes on sampling.

    Raises:
        LabelStudioError: the event of a change to the project did not arrive.
    """

    def received() -> int:
        with service.store.read() as conn:
            return events.count(conn, project.project_id)

    before = received()
    door.update_project(project.project_id, description=project.description)
    if not arrives(lambda: received() > before):
        raise LabelStudioError(
            f"Label Studio has not sent the event of a change to project {project.project_id} "
            f"to {service.settings.backend_url}/webhook within {ARRIVES_WITHIN_S:g} s.",
            why="Ticks would get lost the same way.",
            todo=f"Start Label Studio with {PRIVATE_ADDRESS_LINES} in its environment if this address is "
            "private, and see errors of webhooks in its log.",
        )


def arrives(there: Callable[[], bool]) -> bool:
    """Wait until `there()` is true, at most ARRIVES_WITHIN_S; returns whether it became so."""
    end = time.monotonic() + ARRIVES_WITHIN_S
    while not there():
        if time.monotonic() >= end:
            return False
        time.sleep(_LOOK_S)
    return True
