"""The simulation in which tasks, candidates and ticks travel through Label Studio."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from backend.service import Service
from backend.settings import Settings
from backend.simulate.labelstudio.door import SimulationDoor
from backend.simulate.labelstudio.labelling import LabelStudioLabelling
from backend.simulate.labelstudio.listening import connect, listening, on_port, prove_webhook
from backend.simulate.labelstudio.project import own_project
from backend.simulate.loop import Labels, Simulation
from backend.simulate.options import Options
from backend.simulate.progress import Say
from backend.simulate.record import Iteration
from illume_plugin.types import Json

#: Seconds that an ordinary call may take: a development server on a busy laptop is slow.
PATIENCE_S = 60.0


class LabelStudioSimulation(Simulation):
    """One simulation in one folder and one project of Label Studio.

    Args:
        out: its folder; see Simulation.
        port: to listen on instead of the settings' one.
        say: told progress, a line at a time.

    Raises:
        SettingsError: no token is set.
    """

    def __init__(self, options: Options, out: Path, *, port: int | None = None, say: Say) -> None:
        super().__init__(options, out, say=say)
        self.settings = on_port(self.settings, port)
        self._door = door_to(self.settings)

    def run(self) -> list[Iteration]:
        """Do what is not done yet; returns every iteration, the base model's figures first.

        Raises:
            LabelStudioError: Label Studio cannot be reached, refuses, does not get through to us, or ticks
                are lost or doubled.
            ConflictError, RunError: see Simulation; also where somebody else was at work in the project.
        """
        door = self._door
        # before the folder is begun: with a wrong address or token nothing is
        self.say(f"Label Studio {door.version()} at {door.url} as {door.current_user().email}")
        return super().run()

    def frozen(self) -> dict[str, Json]:
        """Everything that must stay the same for the folder's figures to belong together."""
        return {**super().frozen(), "label_studio": self.settings.label_studio_url}

    @contextmanager
    def service(self) -> Iterator[Service]:
        """A listening backend of its own in the folder, connected to the simulation's own project.

        Raises:
            LabelStudioError: Label Studio cannot be reached, refuses, or does not get through to us.
            SettingsError: our address cannot be listened on.
        """
        door, say = self._door, self.say
        service = Service(self.settings)
        try:
            with listening(service):
                project = own_project(door, self.out, f"ILLUME simulation, seed {self.options.seed}")
                self.project_id = project.project_id
                say(f"project {project.title!r}: {door.url}projects/{project.project_id}")
                connect(service, door, project.project_id, say)
                prove_webhook(service, door, project)
                say(f"events of the project arrive at {self.settings.backend_url}")
                yield service
        finally:
            service.close()

    def labelling(self, service: Service) -> Labels:
        """Who brings tasks in and has them annotated."""
        return LabelStudioLabelling(
            service, self._door, self.pictures, self.project_id, self.annotators, self.say
        )


def door_to(settings: Settings) -> SimulationDoor:
    """The door to the Label Studio of the settings.

    Raises:
        SettingsError: no token is set.
        LabelStudioError: the address or the token cannot be one.
    """
    return SimulationDoor(settings.label_studio_url, settings.token(), timeout_s=PATIENCE_S)
