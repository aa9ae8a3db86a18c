"""P9: the training set of a run from a million preferences, in a process of its own.

The store is filled by SQL, as the loop would have left it: ten judged candidates on each annotation, every
third task judged by two people. What is measured is what a run does before its pictures are fetched: read,
build, hash, name the annotations behind it, and see whether it can be learnt from.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from figures import Figure, figure
from service_setting import ServiceSetting
from sqlalchemy import Table, insert

import label_config
from backend.service import Service
from backend.settings import load_settings
from backend.snapshot import refuse_unready, snapshot_with_sources
from illume_plugin.store import Store, projects
from illume_plugin.store.tables import annotations, preferences, tasks

PROJECT, CANDIDATES = 1, 10
WHOLE, PART = 1_000_000, 250_000
GOAL_S, GOAL_MIB, GOAL_GROWTH = 60.0, 1024.0, 1.3
MIB = 2**20
_AT_A_TIME = 10_000
_WORDS = ("ball", "box", "cone", "left of", "behind", "two", "red", "blue", "shiny", "small", "the largest")


def measure(setting: ServiceSetting) -> dict[str, Figure]:
    """P9 (seconds), P9_memory (MiB) and P9_growth (a preference's time of the whole over that of a part)."""
    whole, part = (WHOLE // 20, PART // 20) if setting.quick else (WHOLE, PART)
    with TemporaryDirectory(prefix="illume-p9-") as name:
        folders = {number: Path(name) / str(number) for number in (whole, part)}
        for number, folder in folders.items():
            fill(folder, number)
        built: dict[int, list[dict[str, Any]]] = {whole: [], part: []}
        for repeat in range(setting.repeats):
            for number in (whole, part) if repeat % 2 else (part, whole):
                built[number].append(in_a_process(folders[number]))
    return figures(built[whole], built[part], whole, part)


def figures(
    of_whole: list[dict[str, Any]], of_part: list[dict[str, Any]], whole: int, part: int
) -> dict[str, Figure]:
    """The three figures of what the processes told."""
    seconds = [one["seconds"] for one in of_whole]
    part_seconds = [one["seconds"] for one in of_part]
    growth = [a / whole / (b / part) for a, b in zip(seconds, part_seconds, strict=True)]
    detail = {
        "preferences": whole,
        "records": of_whole[0]["records"],
        "part": part,
        "part_seconds": part_seconds,
        "part_mib": [one["mib"] for one in of_part],
    }

    def lower(what: str, values: list[float], goal: float) -> Figure:
        what = f"{what} of {whole:,} preferences"
        return figure(values, goal=goal, detail={**detail, "what": what}, higher_is_better=False)

    return {
        "P9": lower("seconds that building the training set takes,", seconds, GOAL_S),
        "P9_memory": lower(
            "MiB that the process takes at most for it,", [one["mib"] for one in of_whole], GOAL_MIB
        ),
        "P9_growth": lower(f"its time for each preference over that of {part:,},", growth, GOAL_GROWTH),
    }


def fill(folder: Path, number: int) -> None:
    """A data folder whose store holds about so many preferences in project 1."""
    folder.mkdir(parents=True)
    store = Store(f"sqlite:///{folder}/illume.sqlite3")
    store.migrate()
    with store.write() as conn:
        projects.put(conn, PROJECT, title="benchmark", label_config=label_config.read("select"), now=1)
    for count in range(0, number // CANDIDATES, _AT_A_TIME // CANDIDATES):
        some = range(count, min(count + _AT_A_TIME // CANDIDATES, number // CANDIDATES))
        rows: dict[Table, list[dict[str, Any]]] = {tasks: [], annotations: [], preferences: []}
        for annotation in some:
            task = annotation - annotation // 4  # two annotations on every third task
            if annotation % 4 or annotation == 0:
                rows[tasks].append(_task(task + 1))
            rows[annotations].append(_annotation(annotation + 1, task + 1))
            rows[preferences] += _preferences(annotation + 1, task + 1)
        with store.write() as conn:
            for table, values in rows.items():
                conn.execute(insert(table), values)
    store.close()


def _task(number: int) -> dict[str, Any]:
    data = {
        "image": f"/data/upload/1/{number:032x}.png",
        "question": f"what is {_text(number)}?",
        "answer": "a ball",
    }
    return {
        "project_id": PROJECT,
        "task_id": number,
        "data": data,
        "updated_at": "2026-11-22T10:00:00.000000Z",
        "digest": f"{number:064x}",
        "deleted": False,
    }


def _annotation(number: int, task: int) -> dict[str, Any]:
    return {
        "project_id": PROJECT,
        "annotation_id": number,
        "task_id": task,
        "updated_at": "2026-11-22T10:00:00.000000Z",
        "digest": f"{number:064x}",
        "deleted": False,
        "was_cancelled": False,
        "annotator": number % 7 + 1,
        "lead_time": 12.5,
        "result": [],
    }


def _preferences(annotation: int, task: int) -> Iterator[dict[str, Any]]:
    for position in range(1, CANDIDATES + 1):
        yield {
            "project_id": PROJECT,
            "task_id": task,
            "annotation_id": annotation,
            "annotator": annotation % 7 + 1,
            "text": f"because {_text(task * CANDIDATES + position)} in the picture",
            "verdict": "fits" if (annotation * 7 + position * 3) % 5 < 2 else "unfit",
            "origin": "candidate",
            "position": position,
            "version": "v0001",
            "best": False,
            "noted_at": 1.0,
        }


def _text(number: int) -> str:
    """Some words, other ones for each number."""
    count = len(_WORDS)
    return f"the {_WORDS[number % count]} {_WORDS[number // count % count]} {number} is {_WORDS[number % 7]}"


def in_a_process(folder: Path) -> dict[str, Any]:
    """What building the training set of a data folder takes a process that does nothing else.

    Raises:
        RuntimeError: it failed.
    """
    words = [sys.executable, str(Path(__file__).resolve()), str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)  # noqa: S603 - our own command
    if done.returncode:
        raise RuntimeError(f"Building ended with code {done.returncode}:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def build(folder: Path) -> dict[str, Any]:
    """Build it here: seconds, the process's peak of memory so far, how many records it has."""
    service = Service(load_settings(data_dir=folder))
    begin = time.monotonic()
    objectives = service.settings.train_config().objectives
    training_set, sources = snapshot_with_sources(service, PROJECT, objectives=objectives)
    refuse_unready(service, PROJECT, training_set, objectives)
    seconds = time.monotonic() - begin
    service.close()
    return {
        "seconds": seconds,
        "mib": _peak_mib(),
        "records": len(training_set.records),
        "sources": len(sources),
    }


def _peak_mib() -> float:
    """The most memory that this program has had; `getrusage` would count what its parent had before it."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    if found is None:
        raise RuntimeError("/proc/self/status has no VmHWM: the peak of the memory is not known here.")
    return int(found[1]) * 1024 / MIB


if __name__ == "__main__":
    print(json.dumps(build(Path(sys.argv[1]))))
