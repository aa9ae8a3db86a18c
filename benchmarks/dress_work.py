"""What DRESS's control is measured on: feedback of simulated people, and draws under what is said of them.

People read what the base model says of some tasks. They give 4 stars to what fits and 1 to what does not,
say yes or no to it, and ask for a change of it; what they were shown next is another candidate of the same
task. The adapter is trained as any run is, with DRESS beside ILLUME's loss.

What people say are words of the picture world. The embedded model never read others, digits and most letters
among them: their embeddings are as good as one vector (cosine 0.99), so it cannot tell 4 stars from 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from backend.simulate.measuring import TEMPERATURE
from backend.simulate.world import DrawnPictures, held_out_image, held_out_tasks, labelled_tasks, task_data
from illume_plugin.base_model import BaseModel
from illume_plugin.dataset import build_training_set
from illume_plugin.embedded import Reason, WorldTask, check
from illume_plugin.examples import MAX_STARS, Condition, ObjectiveName
from illume_plugin.feedback import condition_text
from illume_plugin.generation import SampleRequest, SamplingPlan
from illume_plugin.generation.drawing import SeededDraw
from illume_plugin.generation.engine import TransformersGenerator
from illume_plugin.generation.tokens import new_tokens
from illume_plugin.selection import clean
from illume_plugin.training import TrainConfig
from illume_plugin.training.trainer import train_adapter
from illume_plugin.types import Origin, Preference, Task, TrainingSet, Verdict

ADAPTER = "dress"
PROJECT = 1
ROWS = 120
PLAN = SamplingPlan(max_new_tokens=60)
#: Conditions that held-out tasks are drawn under.
PLAIN, GOOD, BAD = Condition(), Condition(helpful=MAX_STARS), Condition(helpful=1)
#: The same stars with what people say beside them.
YES, NO = "yes", "no"
PRAISED, BLAMED = replace(GOOD, critique=YES), replace(BAD, critique=NO)
#: Unfit candidates of a task that people ask to change, at most.
ASKED = 2
#: What people ask for in place of an unfit candidate.
WISHES: Mapping[Reason, str] = {
    Reason.FALSE: "What can you see ?",
    Reason.NO_SUPPORT: "What shows that ?",
    Reason.GENERIC: "What is in the picture ?",
    Reason.MALFORMED: "Why ?",
    Reason.WRONG_ANSWER: "What can you see ?",
}


@dataclass(frozen=True)
class Posed:
    """A task of the world as the model is asked about it."""

    world: WorldTask
    request: SampleRequest

    def reason(self, text: str | None) -> Reason:
        """Whether a rationale fits, or what is wrong with it; one that did not end is no sentence."""
        if text is None:
            return Reason.MALFORMED
        return check(self.world.scene, self.world.question, self.world.answer, text).reason


def labelled(seed: int, number: int, pictures: DrawnPictures) -> list[Posed]:
    """Tasks that people judge."""
    found = labelled_tasks(seed, tasks=number, iteration=1)
    return [
        _posed(task_id, task, str(task_data(task_id, task)["image"]), pictures)
        for task_id, task in found.items()
    ]


def held_out(seed: int, number: int, pictures: DrawnPictures) -> list[Posed]:
    """Tasks that nobody ever judges."""
    found = enumerate(held_out_tasks(seed, number), start=1)
    return [_posed(task_id, task, held_out_image(task_id), pictures) for task_id, task in found]


def _posed(task_id: int, task: WorldTask, image: str, pictures: DrawnPictures) -> Posed:
    asked = Task(PROJECT, task_id, image, task.question_text, task.answer)
    return Posed(task, SampleRequest(asked, pictures.draw(image, task)))


def training_set(base: BaseModel, tasks: Sequence[Posed]) -> TrainingSet:
    """What people said of the base model's candidates."""
    generator = TransformersGenerator(base, rows=ROWS)
    drawn = generator.draw([each.request for each in tasks], PLAN)
    said = [
        one
        for each, draws in zip(tasks, drawn, strict=True)
        for one in preferences(each, [candidate.text for candidate in clean(draws).kept])
    ]
    asked = [each.request.task for each in tasks]
    on = (ObjectiveName.ILLUME, ObjectiveName.DRESS)
    return build_training_set(PROJECT, asked, said, held_out_fraction=0.0, objectives=on)


def preferences(posed: Posed, texts: Sequence[str]) -> Iterator[Preference]:
    """What one person says of a task's candidates, in both turns."""
    reasons = {text: posed.reason(text) for text in texts}
    for text in texts:
        yield _said(posed, text, reasons[text])
    unfit = [text for text in texts if reasons[text] is not Reason.OK]
    for place, before in enumerate(unfit[:ASKED]):
        wish = WISHES[reasons[before]]
        for after in _next_ones(texts, reasons, unfit, place):
            yield replace(_said(posed, after, reasons[after]), turn=2, before=before, refinement=wish)


def _next_ones(
    texts: Sequence[str], reasons: Mapping[str, Reason], unfit: Sequence[str], place: int
) -> Iterator[str]:
    """What is shown in place of an unfit candidate: one that fits and one that does not, where there are."""
    fitting = [text for text in texts if reasons[text] is Reason.OK]
    if fitting:
        yield fitting[place % len(fitting)]
    if len(unfit) > 1:
        yield unfit[(place + 1) % len(unfit)]


def _said(posed: Posed, text: str, reason: Reason) -> Preference:
    fits = reason is Reason.OK
    return Preference(
        project_id=PROJECT,
        task_id=posed.request.task.task_id,
        annotation_id=posed.request.task.task_id,
        annotator=1,
        text=text,
        verdict=Verdict.FITS if fits else Verdict.UNFIT,
        origin=Origin.CANDIDATE,
        position=1,
        version=None,
        helpful=MAX_STARS if fits else 1,
        critique=YES if fits else NO,
    )


def train(
    base: BaseModel,
    tasks: Sequence[Posed],
    learnt: TrainingSet,
    config: TrainConfig,
    scratch: Path,
) -> int:
    """Train the adapter, which stays loaded; returns the number of steps."""
    images = {each.request.task.image: each.request.image for each in tasks}
    return train_adapter(
        base,
        ADAPTER,
        learnt,
        images,
        config,
        parent=None,
        scratch=scratch,
        progress=lambda *_: None,
    )


def first_turns(
    base: BaseModel, tasks: Sequence[Posed], condition: Condition, samples: int, adapter: str | None
) -> list[list[str | None]]:
    """Draws for each task under a condition; None where one did not end."""
    under = replace(base, prompts=replace(base.prompts, said=condition_text(condition)))
    generator = TransformersGenerator(under, rows=ROWS)
    drawn = generator.draw([each.request for each in tasks], _plan(samples), adapter=adapter)
    return [[None if one is None else one.text for one in draws] for draws in drawn]


def second_turns(
    base: BaseModel, tasks: Sequence[Posed], befores: Sequence[str], wishes: Sequence[str], samples: int
) -> list[list[str | None]]:
    """Draws for each task after `before` and the wish for a change, asked for the best."""
    under = replace(base.prompts, said=condition_text(PRAISED))
    plan = _plan(samples)
    asked = [each.request.task for each in tasks]
    prompts = [
        under.refined(task.question, task.answer, before, wish, "")[0].text
        for task, before, wish in zip(asked, befores, wishes, strict=True)
    ]
    draws = [draw for task in asked for draw in plan.seeds(task, ADAPTER)]
    seeded = SeededDraw(
        [seed for _, seed in draws],
        [temperature for temperature, _ in draws],
        top_k=plan.top_k(len(base.processor.tokenizer)),
        steps=plan.max_new_tokens,
        device=base.device,
    )
    rows = new_tokens(
        base,
        prompts,
        [each.request.image for each in tasks],
        adapter=ADAPTER,
        steps=plan.max_new_tokens,
        rows=ROWS,
        copies=samples,
        draw=seeded,
    )
    texts = [_told(base, row) for row in rows]
    return [texts[start : start + samples] for start in range(0, len(texts), samples)]


def _plan(samples: int) -> SamplingPlan:
    return replace(PLAN, temperatures=(TEMPERATURE,), samples=samples)


def _told(base: BaseModel, row: Sequence[int]) -> str | None:
    """The words before the first end; None where there is none."""
    ends = [place for place, token in enumerate(row) if token in base.end_ids]
    if not ends:
        return None
    return str(base.processor.tokenizer.decode(row[: ends[0]], skip_special_tokens=True)).strip()
