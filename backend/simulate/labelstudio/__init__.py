"""The simulated loop through a real Label Studio: `illume simulate --label-studio`.

It answers one question of whoever runs a Label Studio: do ticks really arrive here, each once, and does the
loop learn from them, before people are let in?

The simulation is a backend of its own: one process with its own store, adapters and listening server in the
results folder, connected to one project of its own. It does not use a running `illume serve` and `illume
worker`, because

* nothing but the project may be touched. In the running backend's store rows, adapters and preferences of
  the simulation would stand beside those of people, and its model would be busy while they work;
* a folder resumes and is thrown away as a whole, and its options decide alone how it samples and trains;
* what can go wrong between Label Studio and a backend goes wrong all the same: the token, the way from
  Label Studio to ILLUME_BACKEND_URL, the secret, blocked addresses, webhooks, pictures behind a login. The
  application, the event store, sampling ahead, pushing and training are the ones that `illume serve` and
  `illume worker` run.

Not shown by it: that *your* serve and worker are up (`illume doctor` looks at those), and what a browser
does (the annotators send what a browser sends).
"""

from backend.simulate.labelstudio.door import SimulationDoor
from backend.simulate.labelstudio.project import removable, remove
from backend.simulate.labelstudio.simulation import LabelStudioSimulation, door_to

__all__ = ["LabelStudioSimulation", "SimulationDoor", "door_to", "removable", "remove"]
