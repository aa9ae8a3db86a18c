"""How good a version is on held-out tasks of the picture world, where every rationale can be checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from backend.simulate.options import Options
from backend.simulate.progress import Say, Stage
from backend.simulate.record import Measurement
from backend.simulate.world import DrawnPictures, held_out_image, held_out_tasks
from illume_plugin.embedded import WorldTask, check
from illume_plugin.generation import Generator, SampleRequest, SamplingPlan
from illume_plugin.identity import wording
from illume_plugin.intervals import bootstrap, wilson
from illume_plugin.metrics import distinct_share
from illume_plugin.types import Candidate, Metric, Task

#: The temperature of the fit rate.
TEMPERATURE = 0.7
#: Held-out tasks drawn for between two looks at the progress.
CHUNK = 60
UNFINISHED = "unfinished"

#: What a task's draws gave: a text each, None where it did not end.
Draws = Sequence[str | None]


@dataclass(frozen=True)
class HeldOut:
    """The fixed tasks on which every version of a simulation is measured."""

    options: Options
    pictures: DrawnPictures
    max_new_tokens: int
    say: Say

    def measure(
        self, generator: Generator, adapter: str | None, *, version: str, name: str
    ) -> tuple[Measurement, float]:
        """Measure one version; returns its figures and the seconds that it took.

        Args:
            name: of the stage, in progress lines.
        """
        options = self.options
        tasks = held_out_tasks(options.seed, options.held_out_tasks, world=options.world)
        stage = Stage(self.say, name, len(tasks), "held-out tasks")
        measured = measure(
            generator,
            adapter,
            tasks,
            [self.pictures.draw(held_out_image(number), task) for number, task in enumerate(tasks, start=1)],
            version=version,
            temperatures=self.options.temperatures,
            samples=self.options.held_out_samples,
            max_new_tokens=self.max_new_tokens,
            progress=stage.at,
        )
        return measured, stage.seconds


def measure(
    generator: Generator,
    adapter: str | None,
    tasks: Sequence[WorldTask],
    pictures: Sequence[Path],
    *,
    version: str,
    temperatures: Sequence[float],
    samples: int,
    max_new_tokens: int,
    progress: Callable[[int], None] = lambda _done: None,
) -> Measurement:
    """Measure one version.

    The draws of one task are not independent, so a share has Wilson's 95 % interval for as many outcomes
    as there are tasks, each the mean over the task's draws: never too narrow, and sane at 0 and 1.

    Args:
        pictures: of the tasks, in their order.
        version: what to call the adapter.
        temperatures: of the sampling plan; one draw is made at each.
        samples: draws per task at T = 0.7.
        progress: told how many tasks are done.
    """
    given: list[str] = []
    at_seven: list[list[str | None]] = []
    at_plan: list[list[str | None]] = []
    seven = SamplingPlan((TEMPERATURE,), samples, max_new_tokens=max_new_tokens)
    each = SamplingPlan(tuple(temperatures), 1, max_new_tokens=max_new_tokens)
    for start in range(0, len(tasks), CHUNK):
        requests = [
            SampleRequest(Task(0, number, "", task.question_text, task.answer), picture)
            for number, (task, picture) in enumerate(
                zip(tasks[start : start + CHUNK], pictures[start : start + CHUNK], strict=True),
                start=start + 1,
            )
        ]
        given += generator.answer(requests, adapter=adapter)
        at_seven += _texts(generator.draw(requests, seven, adapter=adapter))
        at_plan += _texts(generator.draw(requests, each, adapter=adapter))
        progress(len(given))
    return judged(version, tasks, given, at_seven, at_plan)


def judged(
    version: str,
    tasks: Sequence[WorldTask],
    given: Sequence[str],
    at_seven: Sequence[Draws],
    at_plan: Sequence[Draws],
) -> Measurement:
    """The figures that follow from what was drawn; each sequence has one item per task."""
    verdicts = [[_reason(task, text) for text in draws] for task, draws in zip(tasks, at_seven, strict=True)]
    plan = [_fitting(task, draws) for task, draws in zip(tasks, at_plan, strict=True)]
    fits = [_fitting(task, draws) for task, draws in zip(tasks, at_seven, strict=True)]
    right = [float(wording(a) == wording(task.answer)) for task, a in zip(tasks, given, strict=True)]
    distinct = [distinct_share([t for t in draws if t], draws=len(draws)) for draws in at_seven]
    kinds = sorted({task.question.kind for task in tasks})
    return Measurement(
        version=version,
        fit_rate=wilson(fits),
        fit_rate_plan=wilson(plan),
        answer_accuracy=wilson(right),
        distinct=bootstrap(distinct),
        reasons=dict(sorted(Counter(each for task in verdicts for each in task).items())),
        kinds={
            kind: {"fit_rate": _of(kind, tasks, fits), "answer_accuracy": _of(kind, tasks, right)}
            for kind in kinds
        },
    )


def _texts(drawn: Sequence[Sequence[Candidate | None]]) -> list[list[str | None]]:
    return [[None if each is None else each.text for each in draws] for draws in drawn]


def _reason(task: WorldTask, text: str | None) -> str:
    if text is None:
        return UNFINISHED
    return str(check(task.scene, task.question, task.answer, text).reason)


def _fitting(task: WorldTask, draws: Draws) -> float:
    return fmean(
        text is not None and check(task.scene, task.question, task.answer, text).fits for text in draws
    )


def _of(kind: str, tasks: Sequence[WorldTask], outcomes: Sequence[float]) -> Metric:
    return wilson([o for task, o in zip(tasks, outcomes, strict=True) if task.question.kind == kind])
