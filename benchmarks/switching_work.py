"""P8: another adapter takes over while 16 clients ask for candidates that have to be sampled.

The backend runs as `illume serve` starts it, in its own process with the embedded model; the clients speak
HTTP with it; each switch is promoted through registry and store, as a worker or a person does, to a version
that was never loaded before. The peer is what a server without adapters would do: load the base model again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from figures import Figure, figure
from live_backend import PROJECT, LiveBackend, live_backend, world
from live_clients import Call, Clients
from setting import Setting

from backend.service import Service
from illume_plugin.base_model import load_base_model
from illume_plugin.embedded import base_model_path

CLIENTS, SWITCHES = 16, 6
#: Calls between two switches, in rounds of all clients: enough to know what is usual.
ROUNDS = 5
GOAL_MS = 100.0
#: For a round of calls, the loading of the base model before the first one included.
WITHIN_S = 300.0


@dataclass(frozen=True)
class Switch:
    """One switch and the calls around it.

    Attributes:
        begin: when the new version was promoted, on the monotonic clock.
        end: when the first candidates of the new version had arrived.
        during: calls that overlap the switch.
        before: calls since the switch before it that overlap neither.
    """

    begin: float
    end: float
    during: Sequence[Call]
    before: Sequence[Call]

    @property
    def added_ms(self) -> float:
        """What the median call during the switch takes longer than the median call before it."""
        return median(c.ms for c in self.during) - median(c.ms for c in self.before)

    @property
    def added_worst_ms(self) -> float:
        """What the slowest call during it takes longer than the slowest of as many calls usually does."""
        return max(c.ms for c in self.during) - usual_worst([c.ms for c in self.before], len(self.during))


def usual_worst(values: Sequence[float], size: int) -> float:
    """The median, over groups of `size` consecutive values, of the largest one in the group.

    A last group that is not full counts for nothing, unless it is the only one.
    """
    groups = [values[start : start + size] for start in range(0, len(values), size)]
    full = [group for group in groups if len(group) == size] or groups
    return median(max(group) for group in full)


def switches(calls: Sequence[Call], promoted: Sequence[tuple[float, str]]) -> list[Switch]:
    """What became of each promotion.

    Args:
        calls: of all clients.
        promoted: when and to which version, in order; the first is only where the usual calls begin.

    Raises:
        ValueError: a version gave no candidates, or no call was made between two switches.
    """
    ends = [_first_end(calls, version) for _, version in promoted]
    found = []
    for (begin, version), end, since in zip(promoted[1:], ends[1:], ends, strict=False):
        good = [call for call in calls if not call.problem]
        during = [call for call in good if call.end >= begin and call.begin <= end]
        before = [call for call in good if call.begin > since and call.end < begin]
        if not before:
            raise ValueError(f"No call lies between the switch to {version} and the one before it.")
        found.append(Switch(begin, end, during, sorted(before, key=lambda call: call.end)))
    return found


def _first_end(calls: Sequence[Call], version: str) -> float:
    ends = [call.end for call in calls if call.version == version]
    if not ends:
        raise ValueError(f"No candidates of {version} came.")
    return min(ends)


def measure(setting: Setting) -> dict[str, Figure]:
    """P8 (median call), P8_worst (slowest call), P8_failed (calls without candidates)."""
    number = 5 if setting.quick else SWITCHES
    tasks = world()
    with (
        TemporaryDirectory(prefix="illume-p8-") as name,
        live_backend(Path(name), tasks, adapters=number + 1) as backend,
    ):
        clients = Clients(backend.url, tasks, threads=CLIENTS)
        with clients.calling():
            promoted = _promote_in_turn(backend, clients, number)
        calls = clients.calls
        loads = _load_ms(backend.service, number)
    return figures(switches(calls, promoted), calls, loads, [_reload_seconds() for _ in range(number)])


def figures(
    found: Sequence[Switch], calls: Sequence[Call], loads: Sequence[float], reloads: Sequence[float]
) -> dict[str, Figure]:
    """The three figures of what was measured.

    Args:
        loads: milliseconds that verifying and loading an adapter takes alone.
        reloads: seconds that loading the base model takes alone.
    """
    problems = [call.problem for call in calls if call.problem]
    detail: dict[str, Any] = {
        "clients": CLIENTS,
        "calls": len(calls),
        "usual_ms": [median(c.ms for c in one.before) for one in found],
        "usual_worst_ms": [max(c.ms for c in one.before) for one in found],
        "calls_during": [len(one.during) for one in found],
        "switch_ms": [1000 * (one.end - one.begin) for one in found],
        "load_ms": list(loads),
        "reload_seconds": list(reloads),
    }
    told = (
        f"usual {median(detail['usual_ms']):.0f} ms; alone, loading an adapter takes {median(loads):.0f} ms, "
        f"the base model {median(reloads):.2f} s"
    )
    worst = [one.added_worst_ms for one in found]

    def lower(values: Sequence[float], goal: float, **more: Any) -> Figure:
        return figure(values, goal=goal, detail={**detail, **more}, higher_is_better=False)

    return {
        "P8": lower([one.added_ms for one in found], GOAL_MS, told=f"ms added, median call; {told}"),
        "P8_worst": lower(worst, GOAL_MS, told="ms added, slowest call"),
        "P8_failed": lower(
            [len(problems)], 0, problems=problems[:5], told=f"of {len(calls)} calls had no candidates"
        ),
    }


def _promote_in_turn(backend: LiveBackend, clients: Clients, number: int) -> list[tuple[float, str]]:
    """Promote v0001, which is not counted, and `number` more; returns when, and which."""
    clients.wait_for(2 * CLIENTS, within_s=WITHIN_S)
    promoted = []
    for place in range(1, number + 2):
        version = f"v{place:04d}"
        promoted.append((time.monotonic(), version))
        backend.switch(version)
        clients.wait_for(ROUNDS * CLIENTS, version=version, within_s=WITHIN_S)
    return promoted


def _load_ms(service: Service, number: int) -> list[float]:
    """What verifying and loading each of `number` adapters takes in this process, after the first one."""
    generator, taken = service.engine.generator(), []
    for place in range(1, number + 2):
        version, begin = f"v{place:04d}", time.monotonic()
        with service.engine.adapters.using(PROJECT, version) as name:
            taken.append(1000 * (time.monotonic() - begin))
            if name is None or not generator.has(name):
                raise ValueError(f"{version} was not loaded.")
    return taken[1:]


def _reload_seconds() -> float:
    begin = time.monotonic()
    load_base_model(base_model_path(), device="cpu")
    return time.monotonic() - begin
