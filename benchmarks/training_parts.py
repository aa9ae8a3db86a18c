"""What both sides of a benchmark of training need: pictures and words, a processor, a watch on one step."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import shapes
import torch
from figures import CLOCKS, LeftOutError, Times
from huggingface_hub import constants
from PIL import Image
from random_folder import make_tokenizer
from setting import Setting
from transformers import LlavaProcessor, PrinterCallback, TrainerCallback
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from illume_plugin.base_model import Adapters, BaseModel, Prompts
from illume_plugin.training import TrainConfig
from illume_plugin.training.arguments import arguments_of
from illume_plugin.training.equality import TOLERANCE
from illume_plugin.training.lora import language_layers, lora_config

#: TRL's Trainers report each start of theirs over the network; a measurement tells nobody.
constants.HF_HUB_DISABLE_TELEMETRY = True

#: Words of a candidate.
WORDS = 30
END = "w3"
#: Standard deviation of the adapters' weights; with the LoRA scale of 2, a change of a sixth of the weights.
SPREAD = 0.02


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
    """What each optimiser step took, and the loss and the gradient's norm of the last one."""

    def __init__(self) -> None:
        self.took: list[Times] = []
        self.losses: list[float] = []
        self.norm = 0.0
        self._before: Times = {}

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Start the watches."""
        self._before = {name: clock() for name, clock in CLOCKS.items()}

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Stop them."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.took.append({name: clock() - self._before[name] for name, clock in CLOCKS.items()})

    def on_log(self, *_: Any, logs: dict[str, float], **__: Any) -> None:
        """Keep loss and norm; what is logged at a run's end has neither."""
        if "loss" in logs:
            self.losses.append(float(logs["loss"]))
            self.norm = float(logs["grad_norm"])


@dataclass(frozen=True)
class Contender:
    """A Trainer that makes one step at each call of `train`."""

    trainer: Any
    clock: StepClock = field(default_factory=StepClock)

    def __post_init__(self) -> None:
        self.trainer.remove_callback(PrinterCallback)  # the table is what is printed here

    def step(self) -> Times:
        """Make one step; what it took."""
        self.trainer.train()
        return self.clock.took[-1]


def make_pictures(shape: shapes.Shape, folder: Path, count: int, numbers: random.Random) -> dict[str, Path]:
    """Drawings of noise, by the address that rows name them by."""
    images = {f"/{index}.png": folder / f"{index}.png" for index in range(count)}
    for path in images.values():
        Image.frombytes("RGB", (shape.tile, shape.tile), numbers.randbytes(3 * shape.tile**2)).save(path)
    return images


def words(numbers: random.Random, count: int) -> str:
    """A text of so many tokens."""
    return " ".join(f"w{numbers.randrange(10, shapes.IMAGE_TOKEN)}" for _ in range(count))


def prompts_of(shape: shapes.Shape) -> Prompts:
    """The plain prompts, with an end that a random model knows as a word."""
    side = {"height": shape.tile, "width": shape.tile}
    processor = TiledProcessor(
        image_processor=CLIPImageProcessorPil(size={"shortest_edge": shape.tile}, crop_size=side),
        tokenizer=make_tokenizer(),
        patch_size=16,
        image_token="<image>",  # noqa: S106 - a word, no secret
    )
    processor.tiles, processor.picture_tokens = shape.tiles, shape.picture_tokens
    processor.tokenizer.eos_token = END
    return Prompts(processor, ends=(f" {END}",))


def our_base(shape: shapes.Shape, setting: Setting, config: TrainConfig) -> BaseModel:
    """A base model of the shape with a fresh adapter called "new"."""
    model = shape.model(setting.dtype, setting.device)
    prompts = prompts_of(shape)
    device = torch.device(setting.device)
    base = BaseModel(Adapters(model), prompts.processor, prompts, shape.name, "", device, (3,), shapes.PAD)
    base.adapters.create("new", lora_config(config, language_layers(model)))
    return base


def unsettle(model: Any) -> None:
    """Draw the adapter's weights anew, the same ones for every model with an adapter of this shape.

    A fresh adapter changes nothing: what the contenders learn from it could not be told apart, and every loss
    of DPO would be log 2, whatever is computed.
    """
    chance = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for _, weight in sorted(model.named_parameters()):
            if weight.requires_grad:
                weight.copy_(torch.randn(weight.shape, generator=chance) * SPREAD)


def peers_settings(config: TrainConfig, folder: Path, setting: Setting, *, rows: int) -> dict[str, Any]:
    """Arguments of TRL's configurations: as ours, and nothing done twice or on the side.

    Args:
        rows: of the data set that make one optimiser step.
    """
    ours = arguments_of(config, folder, torch.device(setting.device)).to_dict()
    same = ("learning_rate", "max_steps", "warmup_steps", "use_cpu")
    return {name: ours[name] for name in same} | {
        "output_dir": str(folder),
        "per_device_train_batch_size": rows,
        "bf16": False,  # the weights are in the type that is computed in
        "max_length": None,
        "gradient_checkpointing": False,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }


def as_data_set(rows: Sequence[dict[str, Any]]) -> Any:
    """Rows as TRL takes them, their pictures as files that are read when they are needed.

    Raises:
        LeftOutError: TRL is not installed.
    """
    try:
        import trl  # noqa: F401 - the peer; it brings `datasets`
        from datasets import Dataset, List, disable_progress_bars
        from datasets import Image as Picture
    except ImportError as error:
        raise LeftOutError(f"TRL is not here ({error}): pip install 'illume-label-studio[dev]'.") from error
    disable_progress_bars()
    return Dataset.from_list(list(rows)).cast_column("images", List(Picture()))


def agreed(peer: StepClock, ours: StepClock, dtype: torch.dtype) -> str:
    """Both losses and gradient norms in words.

    Raises:
        AssertionError: they differ by more than rounding, so it was not the same work.
    """
    told = f"loss {peer.losses[-1]:.5f} / {ours.losses[-1]:.5f}, norm {peer.norm:.4f} / {ours.norm:.4f}"
    for one, other in ((peer.losses[-1], ours.losses[-1]), (peer.norm, ours.norm)):
        if not abs(one - other) <= TOLERANCE[dtype] * abs(one):
            raise AssertionError(f"The contenders learn different things: {told}.")
    return told
