"""Does the backend stay as it is? Full load for half an hour, and what its process takes meanwhile.

\b
    python benchmarks/soak.py --minutes 1                       to see that it works
    python benchmarks/soak.py --minutes 30 --json results/soak.json --svg results/soak.svg

The backend runs as `illume serve --with-worker` starts it, with the embedded model. 16 clients ask for live
candidates 20 s of every 30; in the other 10 the worker samples ahead, which it is interrupted in when they
come back. Everything drawn is scored, with and without the picture. Every 20 s another of 12 adapters is
promoted; 8 stay loaded. Every 10 s memory, open files, threads and latencies are written down.

Verdict: a line through the memory after the first third of the run, see memory_line.py. Open files and
threads must not be more in the last third than they were in the second; the database's own files are not
counted, its pool bounds them.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch: threads that spin cost others their time

import click
import psutil
import torch
from live_backend import PROJECT, LiveBackend, live_backend, task_data, world
from live_clients import Call, Clients
from memory_line import FEWEST, LIMIT_MIB_PER_HOUR, Line, Verdict, after_warm_up, line_through, verdict
from setting import machine
from soak_plot import plot

from illume_plugin.embedded import WorldTask
from illume_plugin.store import candidates, projects

TICK_S, CLIENTS, ADAPTERS = 10.0, 16, 12
#: In ticks: the clients rest in every third one; another adapter in every second one.
REST_EVERY, SWITCH_EVERY = 3, 2
#: Tasks that nobody asks about, more than the worker can sample ahead until the next switch.
AHEAD_TASKS = 150
#: Live tasks have numbers beyond these.
FIRST_LIVE = 1_000_000
MIB = 2**20
DATABASE = "illume.sqlite3"


@dataclass(frozen=True)
class Look:
    """What was seen at one moment.

    Attributes:
        minutes: since the load began.
        calls, problems: live calls that ended since the look before, and those of them without candidates.
        median_ms, worst_ms: of these calls; None where none ended.
        ahead: candidate sets of the active version that the worker has sampled.
    """

    minutes: float
    memory_mib: float
    files: int
    threads: int
    calls: int
    problems: int
    median_ms: float | None
    worst_ms: float | None
    ahead: int
    version: str


def looks(backend: LiveBackend, clients: Clients, tasks: Sequence[WorldTask], ticks: int) -> Iterator[Look]:
    """Load the backend for `ticks` ticks; one look after each."""
    begin, process, version = time.monotonic(), psutil.Process(backend.pid), "v0000"
    for tick in range(ticks):
        if tick % REST_EVERY == REST_EVERY - 1:
            clients.pause()
        else:
            clients.go_on()
        if tick % SWITCH_EVERY == 0:
            version = f"v{tick // SWITCH_EVERY % ADAPTERS + 1:04d}"
            _more_tasks(backend, tasks, tick)
            backend.switch(version)
        time.sleep(max(0.0, begin + (tick + 1) * TICK_S - time.monotonic()))
        minutes = (time.monotonic() - begin) / 60
        yield _look(minutes, process, clients.taken(), _sampled_ahead(backend, version), version)


def _look(minutes: float, process: psutil.Process, calls: Sequence[Call], ahead: int, version: str) -> Look:
    with process.oneshot():
        memory = process.memory_info().rss / MIB
        files, threads = process.num_fds() - _of_database(process), process.num_threads()
    taken = [call.ms for call in calls]
    return Look(
        minutes=minutes,
        memory_mib=memory,
        files=files,
        threads=threads,
        calls=len(calls),
        problems=sum(bool(call.problem) for call in calls),
        median_ms=median(taken) if taken else None,
        worst_ms=max(taken, default=None),
        ahead=ahead,
        version=version,
    )


def _of_database(process: psutil.Process) -> int:
    """Files of SQLite's connections, three each: as many as its pool keeps, which fills as calls coincide."""
    return sum(DATABASE in Path(each.path).name for each in process.open_files())


def _more_tasks(backend: LiveBackend, tasks: Sequence[WorldTask], tick: int) -> None:
    """Take in tasks for the worker, as an import into the project does."""
    first = 1 + tick * AHEAD_TASKS
    numbers = range(first, first + AHEAD_TASKS)
    with backend.service.store.write() as conn:
        projects.put_tasks(conn, PROJECT, [(number, task_data(number, tasks)) for number in numbers])


def _sampled_ahead(backend: LiveBackend, version: str) -> int:
    with backend.service.store.read() as conn:
        done = candidates.sampled_tasks(conn, PROJECT, version=version, plan=backend.service.plan.hash)
    return sum(number < FIRST_LIVE for number in done)


def judged(seen: Sequence[Look]) -> tuple[Line, Verdict, list[str]]:
    """The line through the memory, the verdict on it, and what else grew."""
    kept = after_warm_up(seen)
    line = line_through([one.minutes / 60 for one in kept], [one.memory_mib for one in kept])
    half = len(kept) // 2
    grew = [
        f"{name} from {before} to {after}"
        for name, before, after in (
            ("open files", max(o.files for o in kept[:half]), max(o.files for o in kept[half:])),
            ("threads", max(o.threads for o in kept[:half]), max(o.threads for o in kept[half:])),
        )
        if after > before
    ]
    return line, verdict(line) if len(kept) >= FEWEST else Verdict.OPEN, grew


def report(seen: Sequence[Look]) -> dict[str, Any]:
    """Everything, as it is written."""
    line, said, grew = judged(seen)
    return {
        "soak": {
            "slope_mib_per_hour": line.slope,
            "low": line.low,
            "high": line.high,
            "limit": LIMIT_MIB_PER_HOUR,
            "verdict": said.value,
            "grew": grew,
            "minutes": seen[-1].minutes,
            "memory_mib": [seen[0].memory_mib, seen[-1].memory_mib],
            "calls": sum(one.calls for one in seen),
            "problems": sum(one.problems for one in seen),
            "switches": -(-len(seen) // SWITCH_EVERY),
            "ahead": sum({one.version: one.ahead for one in seen}.values()),
            "looks": [asdict(one) for one in seen],
            **machine("cpu", torch.float32),
        }
    }


def told(found: dict[str, Any]) -> str:
    """The result in a few lines."""
    one = found["soak"]
    more = f"; more than before: {', '.join(one['grew'])}" if one["grew"] else ""
    return (
        f"memory {one['memory_mib'][0]:.0f} to {one['memory_mib'][1]:.0f} MiB; after the first third "
        f"{one['slope_mib_per_hour']:+.1f} MiB/h (95 %: {one['low']:+.1f} to {one['high']:+.1f}; limit "
        f"{one['limit']:g}): {one['verdict']}{more}\n"
        f"{one['calls']} live calls, {one['problems']} of them without candidates; {one['ahead']} tasks "
        f"sampled ahead; {one['switches']} switches in {one['minutes']:.1f} minutes"
    )


@click.command(help=__doc__)
@click.option("--minutes", default=30.0, show_default=True, type=click.FloatRange(min=1))
@click.option("--json", "out", type=click.Path(dir_okay=False, path_type=Path), help="All looks.")
@click.option("--svg", type=click.Path(dir_okay=False, path_type=Path), help="The course of the memory.")
def main(minutes: float, out: Path | None, svg: Path | None) -> None:
    """Load, look, judge."""
    seen, tasks = [], world()
    with (
        TemporaryDirectory(prefix="illume-soak-") as name,
        live_backend(Path(name), tasks, adapters=ADAPTERS, worker=True) as backend,
        Clients(backend.url, tasks, threads=CLIENTS, first=FIRST_LIVE).calling() as clients,
    ):
        for one in looks(backend, clients, tasks, max(6, round(60 * minutes / TICK_S))):
            seen.append(one)
            click.echo(_line(one))
    found = report(seen)
    click.echo(told(found))
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(found, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    if svg:
        line, said, _ = judged(seen)
        points = [(one.minutes, one.memory_mib) for one in seen]
        svg.write_text(plot(points, line, f"Memory of the backend under load: {said}"), encoding="utf-8")


def _line(one: Look) -> str:
    latency = f"{one.median_ms:6.0f} {one.worst_ms:6.0f} ms" if one.median_ms is not None else " " * 16
    return (
        f"{one.minutes:5.1f} min {one.memory_mib:7.1f} MiB {one.files:3} files {one.threads:3} threads "
        f"{one.calls:4} calls {one.problems:3} without {latency}  {one.version} {one.ahead:4} ahead"
    )


if __name__ == "__main__":
    main()
