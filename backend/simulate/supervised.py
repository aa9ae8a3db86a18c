"""The peer that ILLUME is compared with: the same training, on rationales that somebody wrote."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from backend.child import TrainingChild
from backend.sampling import base_model_source
from backend.simulate.loop import Simulation
from backend.simulate.progress import Stage
from backend.simulate.record import Measurement
from backend.simulate.training import LOOK_S, in_words
from backend.simulate.world import labelled_tasks, task_data
from illume_plugin.embedded import WorldTask, rationales
from illume_plugin.identity import content_bits, content_hash
from illume_plugin.training.spec import (
    ADAPTER_FOLDER,
    RESULT_FILE,
    RunSpec,
    read_result,
    write_json,
    write_spec,
)
from illume_plugin.types import BASE_VERSION, TrainingRow, TrainingSet

MEASURED_FILE = "measured.json"


@dataclass(frozen=True)
class Tuned:
    """What tuning on written rationales gave.

    Attributes:
        steps: of the optimiser.
        seconds: of the training run.
    """

    measured: Measurement
    steps: int
    seconds: float


def supervised(simulation: Simulation, written: int) -> Tuned:
    """Train the base model on one written rationale for each of `written` tasks; measure as the loop does.

    The tasks are the first of the stream that the loop labels, the training settings are the loop's. What
    is finished in the simulation's folder is not done again.

    Raises:
        RunError: the training failed.
        ConflictError: something else is going on in the simulation's folder.
    """
    with simulation.alone():
        folder = simulation.out / f"supervised-{written}"
        measured_file = folder / MEASURED_FILE
        if measured_file.is_file():
            measured = Measurement.from_json(json.loads(measured_file.read_text(encoding="utf-8")))
            return _tuned(measured, folder)
        if not (folder / RESULT_FILE).is_file():
            _train(simulation, folder, written)
        measured = _measure(simulation, folder, f"supervised on {written}")
        write_json(measured_file, asdict(measured))
    return _tuned(measured, folder)


def _tuned(measured: Measurement, folder: Path) -> Tuned:
    result = read_result(folder)
    return Tuned(measured, result.steps, result.seconds)


def _measure(simulation: Simulation, folder: Path, name: str) -> Measurement:
    with simulation.service() as service:
        generator = service.engine.generator()
        generator.load_adapter(folder.name, folder / ADAPTER_FOLDER)
        measured, _ = simulation.held_out.measure(
            generator, folder.name, version=folder.name, name=f"{name}: measuring"
        )
    simulation.say(f"{name}: fit rate {measured.fit_rate.value:.1%}")
    return measured


def _train(simulation: Simulation, folder: Path, written: int) -> None:
    options = simulation.options
    tasks = labelled_tasks(options.seed, tasks=written, iteration=1, world=options.world)
    rows = tuple(_row(options.seed, task_id, task) for task_id, task in tasks.items())
    training_set = TrainingSet(
        simulation.project_id, rows, held_out=(), content_hash=content_hash([asdict(row) for row in rows])
    )
    shutil.rmtree(folder, ignore_errors=True)
    spec = RunSpec(
        base_model=base_model_source(simulation.settings),
        parent_adapter=None,
        parent_version=BASE_VERSION,
        training_set=training_set,
        images=_pictures(simulation, rows, tasks),
        config=simulation.options.train_config(),
        device=simulation.settings.device,
        dtype=simulation.settings.dtype,
        quantization=simulation.settings.quantization,
        trust_remote_code=simulation.settings.trust_remote_code,
    )
    write_spec(folder, spec)
    stage = Stage(simulation.say, f"supervised on {written}:", 1, "run")
    with TrainingChild(folder, threads=simulation.settings.torch_threads) as child:
        while child.running():
            child.wait(LOOK_S)
            stage.tell(in_words(child.progress()))
    child.result()


def _row(seed: int, task_id: int, task: WorldTask) -> TrainingRow:
    rng = random.Random(content_bits(["written", seed, task_id]))
    rationale = rationales(task.scene, task.question, task.answer, rng)
    return TrainingRow(task_id, task_data(task_id, task)["image"], task.question_text, task.answer, rationale)


def _pictures(
    simulation: Simulation, rows: tuple[TrainingRow, ...], tasks: Mapping[int, WorldTask]
) -> dict[str, str]:
    return {row.image: str(simulation.pictures.draw(row.image, tasks[row.task_id])) for row in rows}
