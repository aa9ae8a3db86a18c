"""Measures a base model on the picture world: does it see, and how often do its rationales fit?

    python -m illume_plugin.embedded.measure --tasks 300 --seed 1

Uses nothing of ILLUME but the world: plain transformers `generate`, so that its figures are a yardstick
for our own engine too.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
from PIL import Image

from illume_plugin.embedded import base_model_path
from illume_plugin.embedded.build.tokens import WHY
from illume_plugin.embedded.checker import Reason, check
from illume_plugin.embedded.drawing import blank, draw
from illume_plugin.embedded.questions import KINDS
from illume_plugin.embedded.splits import Split
from illume_plugin.embedded.tasks import WorldTask, make_tasks

TEMPERATURES = (0.3, 0.7, 1.0)
BATCH = 50
#: In tokens: the longest rationale of the world has 36.
MAX_NEW_TOKENS = 48

Messages = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Vlm:
    """A processor and a model, as transformers' Auto classes load them."""

    processor: Any
    model: Any


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Share of exactly right greedy answers among `n` tasks."""

    value: float
    n: int


@dataclass(frozen=True, slots=True)
class Sampling:
    """What sampling at one temperature gave, conditioned on the right answer.

    Attributes:
        fit_rate: share of all samples that the checker passes.
        fit_rate_by_kind: the same for each kind of question.
        distinct: mean over tasks of (different texts of a task) / (samples of a task).
        reasons: verdict -> number of samples.
    """

    temperature: float
    fit_rate: float
    fit_rate_by_kind: dict[str, float]
    distinct: float
    n: int
    reasons: dict[str, int]


@dataclass(frozen=True, slots=True)
class Measurement:
    """Everything one call found out.

    Attributes:
        accuracy: of answers, by kind of question and of `all`.
        accuracy_blank_picture: the same where every picture is an empty grid.
        chance: the same for a guess among the answers that a question can have.
    """

    accuracy: dict[str, Accuracy]
    accuracy_blank_picture: dict[str, Accuracy]
    chance: dict[str, float]
    sampling: list[Sampling]
    config: dict[str, Any]


def load(path: Path) -> Vlm:
    """Load a base model in float32 for inference, from local safetensors only."""
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor

    processor = AutoProcessor.from_pretrained(path, local_files_only=True)
    model = AutoModelForImageTextToText.from_pretrained(
        path, local_files_only=True, use_safetensors=True, dtype=torch.float32
    )
    return Vlm(processor, model.eval())


def answers(vlm: Vlm, tasks: Sequence[WorldTask], pictures: Sequence[Image.Image]) -> list[str]:
    """The model's greedy answer to each task's question about the picture at the same index."""
    asked = [_question(task, picture) for task, picture in zip(tasks, pictures, strict=True)]
    return _generate(vlm, asked, do_sample=False)


def sample_rationales(
    vlm: Vlm,
    tasks: Sequence[WorldTask],
    pictures: Sequence[Image.Image],
    temperature: float,
    samples: int,
    seed: int,
) -> list[list[str]]:
    """`samples` rationales for each task, given its right answer, from the untruncated distribution."""
    asked = [_why(task, picture) for task, picture in zip(tasks, pictures, strict=True)]
    how = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
    texts = _generate(vlm, asked, seed=seed, num_return_sequences=samples, **how)
    return [texts[i : i + samples] for i in range(0, len(texts), samples)]


def accuracy(tasks: Sequence[WorldTask], given: Sequence[str]) -> Accuracy:
    """Share of answers that are exactly right."""
    right = sum(task.answer == answer for task, answer in zip(tasks, given, strict=True))
    return Accuracy(right / len(tasks), len(tasks))


def accuracy_by_kind(tasks: Sequence[WorldTask], given: Sequence[str]) -> dict[str, Accuracy]:
    """Accuracy over all tasks and over those of each kind of question that occurs."""
    figures = {"all": accuracy(tasks, given)}
    for kind in KINDS:
        pairs = [(t, a) for t, a in zip(tasks, given, strict=True) if t.question.kind == kind]
        if pairs:
            figures[kind] = accuracy([t for t, _ in pairs], [a for _, a in pairs])
    return figures


def chance() -> dict[str, float]:
    """Accuracy of a blind guess, by kind and of `all`: answers are balanced within each topic of a kind."""
    kinds = {
        name: sum(1 / len(answers) for answers in kind.topics.values()) / len(kind.topics)
        for name, kind in KINDS.items()
    }
    return {"all": sum(kinds.values()) / len(kinds), **kinds}


def judge(tasks: Sequence[WorldTask], sampled: Sequence[Sequence[str]], temperature: float) -> Sampling:
    """Check every sample; `sampled` holds the rationales of the task at the same index."""
    verdicts = [
        (task.question.kind, check(task.scene, task.question, task.answer, text).reason)
        for task, texts in zip(tasks, sampled, strict=True)
        for text in texts
    ]
    reasons = Counter(reason for _, reason in verdicts)
    of_kind, fitting = Counter(kind for kind, _ in verdicts), Counter(verdicts)
    return Sampling(
        temperature=temperature,
        fit_rate=reasons[Reason.OK] / len(verdicts),
        fit_rate_by_kind={kind: fitting[kind, Reason.OK] / n for kind, n in of_kind.items()},
        distinct=sum(len(set(texts)) / len(texts) for texts in sampled) / len(sampled),
        n=len(verdicts),
        reasons={reason.value: reasons[reason] for reason in Reason if reasons[reason]},
    )


def measure(
    path: Path, n: int, seed: int, split: Split, px: int, samples: int, progress: Callable[[str], None]
) -> Measurement:
    """Measure the base model in folder `path` on `n` tasks of a split, drawn at `px` pixels.

    Args:
        samples: rationales to sample for each task at each temperature.
        progress: is told in words what comes next.
    """
    progress(f"drawing {n} pictures of {px} px")
    tasks = make_tasks(n, seed, split)
    pictures = [draw(task.scene, px) for task in tasks]
    progress("loading the base model")
    vlm = load(path)
    progress("answering")
    given = answers(vlm, tasks, pictures)
    progress("answering without seeing")
    unseeing = answers(vlm, tasks, [blank(px)] * n)
    sampling = []
    for temperature in TEMPERATURES:
        progress(f"sampling {n * samples} rationales at temperature {temperature}")
        sampled = sample_rationales(vlm, tasks, pictures, temperature, samples, seed)
        sampling.append(judge(tasks, sampled, temperature))
    config = {"tasks": n, "seed": seed, "split": split, "px": px, "samples": samples, **_versions(path)}
    return Measurement(
        accuracy_by_kind(tasks, given), accuracy_by_kind(tasks, unseeing), chance(), sampling, config
    )


def table(found: Measurement) -> str:
    """The measurement as a few lines of text."""
    lines = [f"{'answers right':<14}{'seeing':>8}{'blank':>8}{'chance':>8}{'n':>7}"]
    for kind, seeing in found.accuracy.items():
        blind = found.accuracy_blank_picture[kind].value
        lines.append(f"  {kind:<12}{seeing.value:8.3f}{blind:8.3f}{found.chance[kind]:8.3f}{seeing.n:7}")
    lines += ["", "sampled rationales"]
    lines += [f"  {'T':<6}{'fit rate':>9}{'distinct':>10}   what the samples are"]
    for s in found.sampling:
        shares = ", ".join(f"{reason} {count / s.n:.2f}" for reason, count in s.reasons.items())
        lines.append(f"  {s.temperature:<6}{s.fit_rate:>9.3f}{s.distinct:>10.3f}   {shares}; n = {s.n}")
        by_kind = ", ".join(f"{kind} {rate:.2f}" for kind, rate in s.fit_rate_by_kind.items())
        lines.append(f"  {'':<6}{'':>19}   fit rate by kind: {by_kind}")
    return "\n".join(lines)


def _question(task: WorldTask, picture: Image.Image) -> Messages:
    content = [{"type": "image", "image": picture}, {"type": "text", "text": task.question_text}]
    return [{"role": "user", "content": content}]


def _why(task: WorldTask, picture: Image.Image) -> Messages:
    answer = {"role": "assistant", "content": [{"type": "text", "text": task.answer}]}
    why = {"role": "user", "content": [{"type": "text", "text": WHY}]}
    return [*_question(task, picture), answer, why]


def _generate(vlm: Vlm, asked: Sequence[Messages], seed: int = 0, **how: Any) -> list[str]:
    import torch

    texts: list[str] = []
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.manual_seed(seed)
        for batch in _batches(asked):
            inputs = vlm.processor.apply_chat_template(
                batch,
                tokenize=True,
                add_generation_prompt=True,
                return_dict=True,
                return_tensors="pt",
                processor_kwargs={"padding": True},
            )
            prompt = inputs["input_ids"].shape[1]
            tokens = vlm.model.generate(**inputs, max_new_tokens=MAX_NEW_TOKENS, **how)
            decoded = vlm.processor.batch_decode(tokens[:, prompt:], skip_special_tokens=True)
            texts += [text.strip() for text in decoded]
    return texts


def _batches(asked: Sequence[Messages]) -> Iterator[list[Messages]]:
    for start in range(0, len(asked), BATCH):
        yield list(asked[start : start + BATCH])


def _versions(path: Path) -> dict[str, str]:
    """What a reader needs to tell whether two measurements may be compared."""
    weights = hashlib.sha256()
    for shard in sorted(path.glob("*.safetensors")):
        weights.update(shard.read_bytes())
    packages = {name: version(name) for name in ("torch", "transformers", "pillow")}
    return {"weights_sha256": weights.hexdigest(), "python": platform.python_version(), **packages}


EPILOG = """\b
Example:
  python -m illume_plugin.embedded.measure --tasks 300 --seed 1
  python -m illume_plugin.embedded.measure --tasks 60 --json > measured.json
"""


@click.command(epilog=EPILOG)
@click.option("--tasks", "n", default=300, show_default=True, type=click.IntRange(1), help="Number of tasks.")
@click.option("--seed", default=1, show_default=True, help="Seed of the tasks and of the sampling.")
@click.option(
    "--split",
    type=click.Choice([s.value for s in Split]),
    default=Split.TEST.value,
    show_default=True,
    help="Which scenes to use.",
)
@click.option("--px", default=720, show_default=True, type=click.IntRange(24), help="Width of the pictures.")
@click.option(
    "--samples",
    default=4,
    show_default=True,
    type=click.IntRange(1),
    help="Rationales for each task and temperature.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of the table.")
@click.option(
    "--model",
    default=base_model_path(),
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of another base model; the shipped one without it.",
)
def main(n: int, seed: int, split: str, px: int, samples: int, as_json: bool, model: Path) -> None:
    """Measure the embedded base model on its picture world.

    Prints how often its answers are right (with the picture and, as a control, with a blank one), and how
    often sampled rationales for the right answer fit, by temperature. Takes about a minute on two cores.
    """
    found = measure(
        model, n, seed, Split(split), px, samples, progress=lambda what: click.echo(f"... {what}", err=True)
    )
    click.echo(json.dumps(asdict(found), indent=2) if as_json else table(found))


if __name__ == "__main__":
    main()
