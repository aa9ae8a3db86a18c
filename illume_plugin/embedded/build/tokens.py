"""The tokenizer, the chat template and the processor of the embedded model."""

from __future__ import annotations

from typing import Any

from illume_plugin.embedded.checker import GENERIC
from illume_plugin.embedded.rationales import rationales
from illume_plugin.embedded.splits import Split
from illume_plugin.embedded.tasks import make_tasks

#: What the model is taught to explain on, word for word.
WHY = "Why?"
#: Width of the picture that the model sees; one patch for each cell of the grid.
PX, PATCH = 96, 32
IMAGE_TOKENS = (PX // PATCH) ** 2
USER, ASSISTANT, IMAGE = "<user>", "<assistant>", "<image>"
#: Enough merges that every word of the world is one token.
VOCABULARY = 480

#: The picture follows the words of its turn, so that picture tokens are read in the light of the question.
CHAT_TEMPLATE = """\
{{- bos_token -}}
{%- for message in messages -%}
{{- '<user>' if message['role'] == 'user' else '<assistant>' -}}
{%- if message['content'] is string -%}
{{- ' ' + message['content'] -}}
{%- else -%}
{%- for part in message['content'] if part['type'] == 'text' -%}{{- ' ' + part['text'] -}}{%- endfor -%}
{%- for part in message['content'] if part['type'] == 'image' -%}{{- '<image>' -}}{%- endfor -%}
{%- endif -%}
{%- if message['role'] != 'user' -%}{{- eos_token -}}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<assistant>' -}}{%- endif -%}"""


def make_tokenizer(seed: int) -> Any:
    """A byte-level BPE trained on the world's sentences: it reads any text, and its words are one token."""
    from random import Random

    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    rng = Random(seed)
    lines = [f" {WHY}", *(f" {sentence}" for sentence in GENERIC)] * 50
    for task in make_tasks(2000, seed, Split.TRAIN):
        said = rationales(task.scene, task.question, task.answer, rng)
        lines += [f" {task.question_text}", f" {task.answer}", f" {said}"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<pad>", "<s>", "</s>", IMAGE, USER, ASSISTANT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(lines, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",  # noqa: S106
        bos_token="<s>",  # noqa: S106
        eos_token="</s>",  # noqa: S106
        extra_special_tokens={"image_token": IMAGE},
        additional_special_tokens=[USER, ASSISTANT],
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def make_processor(tokenizer: Any) -> Any:
    """The processor that `AutoProcessor` loads back: resizes to PX, writes IMAGE_TOKENS image tokens."""
    from transformers import LlavaProcessor, SiglipImageProcessorPil

    return LlavaProcessor(
        image_processor=SiglipImageProcessorPil(
            size={"height": PX, "width": PX}, image_mean=[0.5] * 3, image_std=[0.5] * 3
        ),
        tokenizer=tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="full",
        image_token=IMAGE,
        num_additional_image_tokens=0,
        chat_template=CHAT_TEMPLATE,
    )
