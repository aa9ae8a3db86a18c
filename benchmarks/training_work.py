"""P2, P2L: LoRA steps on 8 candidates for each of 2 pictures, against TRL's SFTTrainer on the same rows.

The peer has one row for each candidate, each with its picture. Both are Trainers on the same random weights,
with the same LoRA layers, rows, optimiser and batch of 16 rows. A candidate stands in the place of the
answer, so that both losses are the mean over the candidates' tokens. What is timed is a whole optimiser step
(forward, backward, clipping, AdamW) without the reading of pictures, which the peer does in every step and
we do once.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import shapes
import torch
from figures import CLOCKS, Figure, LeftOutError, Times, in_turns, ratio
from PIL import Image
from random_folder import make_tokenizer
from setting import Setting
from transformers import LlavaProcessor, TrainerCallback
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from illume_plugin.base_model import Adapters, BaseModel, Prompts
from illume_plugin.training import TrainConfig
from illume_plugin.training.arguments import arguments_of
from illume_plugin.training.lora import language_layers, lora_config
from illume_plugin.training.objective import IllumeObjective
from illume_plugin.training.step_trainer import IllumeTrainer
from illume_plugin.training.terms import terms_of_rows
from illume_plugin.training.ways import Ways
from illume_plugin.types import TrainingRow

PICTURES, CANDIDATES, WORDS = 2, 8, 30
ROWS = PICTURES * CANDIDATES
END = "w3"
CONFIG = TrainConfig(rank=16, batch_size=ROWS, micro_batch_size=ROWS, max_steps=1, learning_rate=1e-5)


class TiledProcessor(LlavaProcessor):  # type: ignore[misc]
    """Cuts no picture: shows the model one tile as often as the shape has tiles, with as many tokens."""

    tiles = 1
    picture_tokens = 1

    def __call__(self, images: Any = None, text: Any = None, **settings: Any) -> Any:
        """As processors do; `text` holds one placeholder for each picture."""
        settings.pop("images_kwargs", None)
        texts = [text] if isinstance(text, str) else list(text)
        spread = [
            each.replace("<image>", " ".join(["<image>"] * self.picture_tokens) + " ") for each in texts
        ]
        encoded = self.tokenizer(spread, return_token_type_ids=False, **settings)
        if images is not None:
            flat = [one for each in images for one in (each if isinstance(each, list) else [each])]
            pixels = self.image_processor(flat, return_tensors="pt")["pixel_values"]
            encoded["pixel_values"] = pixels.repeat_interleave(self.tiles, dim=0)
        return encoded


class StepClock(TrainerCallback):  # type: ignore[misc]
    """What the last optimiser step took, and its loss."""

    def __init__(self) -> None:
        self.took: Times = {}
        self.loss = 0.0
        self._before: Times = {}

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Start the watches."""
        self._before = {name: clock() for name, clock in CLOCKS.items()}

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Stop them."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.took = {name: clock() - self._before[name] for name, clock in CLOCKS.items()}

    def on_log(self, *_: Any, logs: dict[str, float], **__: Any) -> None:
        """Keep the loss."""
        self.loss = logs.get("loss", self.loss)


@dataclass(frozen=True)
class Contender:
    """A Trainer that makes one step at each call of `train`."""

    trainer: Any
    clock: StepClock

    def step(self) -> Times:
        """Make one step; what it took."""
        self.trainer.train()
        return self.clock.took


def against_sft(shape: shapes.Shape, goal: float) -> Callable[[Setting], Figure]:
    """A figure: SFTTrainer's time over ours for one optimiser step."""

    def measure(setting: Setting) -> Figure:
        sized = setting.sized(shape)
        with TemporaryDirectory() as folder:
            rows, images = make_rows(sized, Path(folder))
            peer = sft(sized, setting, rows, images, Path(folder))
            ours, way = shared_prefix(sized, setting, rows, images, Path(folder))
            peers, own = in_turns(peer.step, ours.step, setting.repeats)
        detail = {"shape": sized.name, "rows": ROWS, "pictures": PICTURES, "mode": way}
        detail["told"] = f"loss {peer.clock.loss:.4f} / {ours.clock.loss:.4f}"
        return ratio(peers, own, goal=goal, detail=detail)

    return measure


def make_rows(shape: shapes.Shape, folder: Path) -> tuple[list[TrainingRow], dict[str, Path]]:
    """Candidates that begin alike no more than by chance, and drawings of noise."""
    numbers = random.Random(2)
    images = {f"/{index}.png": folder / f"{index}.png" for index in range(PICTURES)}
    for path in images.values():
        Image.frombytes("RGB", (shape.tile, shape.tile), numbers.randbytes(3 * shape.tile**2)).save(path)

    def words(count: int) -> str:
        return " ".join(f"w{numbers.randrange(10, shapes.IMAGE_TOKEN)}" for _ in range(count))

    questions = [words(shapes.WORDS) for _ in images]
    rows = [
        TrainingRow(task, image, questions[task], words(WORDS))
        for task, image in enumerate(images)
        for _ in range(CANDIDATES)
    ]
    return rows, images


def make_processor(shape: shapes.Shape) -> TiledProcessor:
    """The processor of a shape."""
    side = {"height": shape.tile, "width": shape.tile}
    processor = TiledProcessor(
        image_processor=CLIPImageProcessorPil(size={"shortest_edge": shape.tile}, crop_size=side),
        tokenizer=make_tokenizer(),
        patch_size=16,
        image_token="<image>",  # noqa: S106 - a word, no secret
    )
    processor.tiles, processor.picture_tokens = shape.tiles, shape.picture_tokens
    processor.tokenizer.eos_token = END
    return processor


def prompts_of(shape: shapes.Shape) -> Prompts:
    """The plain prompts, with an end that a random model knows as a word."""
    return Prompts(make_processor(shape), ends=(f" {END}",))


def shared_prefix(
    shape: shapes.Shape, setting: Setting, rows: Sequence[TrainingRow], images: dict[str, Path], folder: Path
) -> tuple[Contender, str]:
    """Our Trainer, and the way of computing rows that it took."""
    model = shape.model(setting.dtype, setting.device)
    prompts = prompts_of(shape)
    device = torch.device(setting.device)
    base = BaseModel(Adapters(model), prompts.processor, prompts, shape.name, "", device, (3,), shapes.PAD)
    base.adapters.create("new", lora_config(CONFIG, language_layers(model)))
    clock = StepClock()
    with base.adapters.training("new") as adapted:
        ways = Ways(base, adapted, terms_of_rows(rows, CONFIG), images, CONFIG, folder)
        objectives = [IllumeObjective(w=1.0)]
        packing = ways.choose(objectives).packing
        trainer = IllumeTrainer(
            adapted,
            packing=packing,
            sampler=ways.sampler,
            objectives=objectives,
            args=arguments_of(CONFIG, folder / "ours", device),
            train_dataset=ways.terms,
            callbacks=[clock],
        )
    return Contender(trainer, clock), packing.name


def sft(
    shape: shapes.Shape, setting: Setting, rows: Sequence[TrainingRow], images: dict[str, Path], folder: Path
) -> Contender:
    """TRL's Trainer on the same rows, the loss on candidates alone.

    Raises:
        LeftOutError: TRL is not installed.
    """
    try:
        from datasets import Dataset
        from trl import SFTConfig, SFTTrainer
    except ImportError as error:
        raise LeftOutError(f"TRL is not here ({error}): pip install 'illume-label-studio[dev]'.") from error
    model = shape.model(setting.dtype, setting.device)
    prompts = prompts_of(shape)
    pairs = [prompts.answer_only(row.question, row.answer) for row in rows]
    data = Dataset.from_list(
        [
            {"images": [str(images[row.image])], "prompt": prompt.text, "completion": reply.text}
            for row, (prompt, reply) in zip(rows, pairs, strict=True)
        ]
    )
    ours = arguments_of(CONFIG, folder / "peer", torch.device(setting.device)).to_dict()
    same = ("per_device_train_batch_size", "learning_rate", "max_steps", "warmup_steps", "use_cpu")
    clock = StepClock()
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            output_dir=str(folder / "peer"),
            **{name: ours[name] for name in same},
            bf16=False,
            max_length=None,
            gradient_checkpointing=False,
            completion_only_loss=True,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        ),
        train_dataset=_with_pictures(data),
        processing_class=prompts.processor,
        peft_config=lora_config(CONFIG, language_layers(model)),
        callbacks=[clock],
    )
    return Contender(trainer, clock)


def _with_pictures(data: Any) -> Any:
    from datasets import Image as Picture
    from datasets import List

    return data.cast_column("images", List(Picture()))
