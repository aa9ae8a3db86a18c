"""What a simulation was asked for, kept beside its results so that nobody goes on with something else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from backend.sampling import base_model_source
from backend.settings import Settings, load_settings
from illume_plugin.annotators import Critic, Strictness, team
from illume_plugin.embedded import World
from illume_plugin.errors import ConflictError, SettingsError
from illume_plugin.gate_policy import GatePolicy
from illume_plugin.quantization import Quantization
from illume_plugin.training.config import TrainConfig
from illume_plugin.training.spec import write_json
from illume_plugin.types import MAX_CANDIDATES, Json

OPTIONS_FILE = "options.json"
#: What folders were made with that do not say so: they are from before it was written down.
_UNSAID: Mapping[str, Json] = {
    "gate": asdict(GatePolicy()),
    "dtype": "auto",
    "quantization": Quantization.NONE.value,
}
#: An option of before, which had one value.
_GONE = "objective"


@dataclass(frozen=True)
class Options:
    """One simulation.

    Attributes:
        world: of which the tasks are; SHAPES is the one that the embedded base model knows.
        tasks: fresh tasks per iteration, all of them labelled.
        unjudged: further tasks that nobody ever opens; in every iteration they get candidates by the version
            that serves, as tasks do that are sampled ahead.
        iterations: rounds of sampling, ticking and training.
        samples: draws per temperature and task.
        candidates: rows that an annotator sees.
        annotators: how many judge every task.
        strictness: kinds of strictness, taken in turn by the annotators.
        noise: probability that an annotator's tick is the wrong one.
        held_out_tasks: tasks that are never labelled, for the figures.
        held_out_samples: draws per held-out task for the fit rate at T = 0.7.
        seed: of the world, the annotators' slips and the training.
        weigh_agreement: a rationale counts by the share of annotators who ticked it, or a majority decides.
        objectives: weights of objectives that differ from their defaults; they win over those in `train`.
        train: fields of TrainConfig that differ from its defaults.
    """

    world: World = World.SHAPES
    tasks: int = 120
    iterations: int = 5
    samples: int = 5
    temperatures: tuple[float, ...] = (0.3, 0.6, 0.9)
    candidates: int = MAX_CANDIDATES
    annotators: int = 1
    strictness: tuple[Strictness, ...] = (Strictness.EXACT,)
    noise: float = 0.0
    critic: Critic = Critic.CHECKER
    held_out_tasks: int = 150
    held_out_samples: int = 4
    unjudged: int = 0
    objectives: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0
    weigh_agreement: bool = True
    train: Mapping[str, Json] = field(default_factory=dict)

    def __post_init__(self) -> None:
        whole = ("tasks", "iterations", "annotators", "held_out_tasks", "held_out_samples")
        wrong = [
            f"{name} must be at least 1, not {getattr(self, name)}."
            for name in whole
            if getattr(self, name) < 1
        ]
        wrong += [
            f"{name} must be at least 0, not {getattr(self, name)}."
            for name in ("seed", "unjudged")
            if getattr(self, name) < 0
        ]
        if wrong:
            raise SettingsError(" ".join(wrong))
        team(self.annotators, self.critic, self.strictness, noise=self.noise)
        self.train_config()

    def train_config(self) -> TrainConfig:
        """How every run trains.

        Raises:
            SettingsError: a training setting is wrong or unknown.
        """
        objectives = {**self.train.get("objectives", {}), **self.objectives}
        return TrainConfig.from_json({"seed": self.seed, **self.train, "objectives": objectives})

    def settings(self, out: Path) -> Settings:
        """Settings of a backend that lives in `out` alone, whatever store the user's own settings name."""
        return load_settings(
            data_dir=out / "data",
            database_url="",
            question_key="question",
            answer_key="answer",
            temperatures=self.temperatures,
            samples=self.samples,
            candidates=self.candidates,
            weigh_agreement=self.weigh_agreement,
            train_after=0,
        )

    def to_json(self) -> dict[str, Json]:
        """The options as JSON values."""
        values: dict[str, Json] = json.loads(json.dumps(asdict(self)))
        return values


def frozen(options: Options, settings: Settings) -> dict[str, Json]:
    """Everything that the figures depend on: the options, and what comes from the user's settings."""
    source = base_model_source(settings)
    return {
        **options.to_json(),
        "base_model": settings.base_model,
        "base_model_hash": _weights_hash(Path(source)),
        "dtype": settings.dtype,
        "quantization": settings.quantization.value,
        "max_new_tokens": settings.max_new_tokens,
        "held_out_fraction": settings.held_out_fraction,
        "minimum_accepted": settings.minimum_accepted,
        "gate": asdict(settings.gate_limits()),
    }


def freeze(out: Path, wanted: Mapping[str, Json]) -> None:
    """Write down what `out` is made with; where it is written already, see that it is the same.

    What came into the program after `out` was begun had its default then.

    Raises:
        ConflictError: it was begun with something else; every difference is named.
    """
    path = out / OPTIONS_FILE
    if not path.is_file():
        write_json(path, wanted)
        return
    written: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    written.pop(_GONE, None)
    known = Options().to_json() | {name: _UNSAID[name] for name in _UNSAID if name in wanted} | written
    differ = [name for name in sorted({*known, *wanted}) if known.get(name) != wanted.get(name)]
    if differ:
        changes = ", ".join(
            f"{name} was {known.get(name)!r} and is {wanted.get(name)!r} now" for name in differ
        )
        raise ConflictError(
            f"{out} was begun with other options: {changes}.",
            why="Its iterations would not belong to one simulation.",
            todo="Give the options of its options.json, or another folder with --out.",
        )


def _weights_hash(folder: Path) -> str:
    """Hash of the weights in a folder; "" for a hub id."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")) if folder.is_dir() else []:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest() if folder.is_dir() else ""
