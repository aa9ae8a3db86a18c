"""Processors without pictures: the chat templates of well-known models on tokenizers of a few lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from illume_plugin.base_model import Prompts

_PARTS = (
    "{% for p in m.content %}{% if p.type == 'image' %}<image>{% else %}{{ p.text }}{% endif %}{% endfor %}"
)
_EACH = "{% for m in messages %}"
_END = "{% endfor %}"

#: name -> (template, special tokens, further added tokens, end token)
TEMPLATES: Mapping[str, tuple[str, tuple[str, ...], tuple[str, ...], str]] = {
    "chatml": (
        f"{_EACH}<|im_start|>{{{{ m.role }}}}\n{_PARTS}<|im_end|>\n{_END}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
        ("<|im_start|>", "<|im_end|>", "<image>"),
        ("<tool_call>", "</think>"),
        "<|im_end|>",
    ),
    "gemma": (
        f"<bos>{_EACH}<start_of_turn>{{{{ 'model' if m.role == 'assistant' else m.role }}}}\n{_PARTS}"
        f"<end_of_turn>\n{_END}{{% if add_generation_prompt %}}<start_of_turn>model\n{{% endif %}}",
        ("<bos>", "<eos>"),
        ("<start_of_turn>", "<end_of_turn>", "<image>", "<unused7>", "<b>"),
        "<end_of_turn>",
    ),
    "vicuna": (
        f"{_EACH}{{% if m.role == 'user' %}}USER: {_PARTS} {{% else %}}ASSISTANT: {_PARTS}</s>{{% endif %}}"
        f"{_END}"
        "{% if add_generation_prompt %}ASSISTANT:{% endif %}",
        ("<s>", "</s>"),
        ("<image>",),
        "</s>",
    ),
    "llama 2": (
        f"<s>{_EACH}{{% if m.role == 'system' %}}<<SYS>> {_PARTS} <</SYS>> {{% elif m.role == 'user' %}}"
        f"[INST] {_PARTS} [/INST]{{% else %}} {_PARTS}</s>{{% endif %}}{_END}",
        ("<s>", "</s>", "<image>"),
        (),
        "</s>",
    ),
    "idefics": (
        f"<|begin|>{_EACH}{{{{ m.role|capitalize }}}}: {_PARTS}<end_of_utterance>\n{_END}"
        "{% if add_generation_prompt %}Assistant:{% endif %}",
        ("<|begin|>", "<end_of_utterance>", "<image>", "<fake_token_around_image>"),
        ("<row_1_col_1>",),
        "<end_of_utterance>",
    ),
    "no template": ("", ("<s>", "</s>", "<image>"), ("<loc0001>", "<seg001>"), "</s>"),
}


class WordsProcessor:
    """A template and a tokenizer of single bytes, which knows no letter that it does not know.

    Args:
        folds: whether it takes full-width letters and capitals for others, in its added tokens too.
    """

    image_token = "<image>"

    def __init__(self, name: str, *, folds: bool = False) -> None:
        template, special, added, end = TEMPLATES[name]
        self.chat_template = template or None
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        words = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
        words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        words.decoder = decoders.ByteLevel()
        if folds:
            words.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
        words.add_special_tokens([AddedToken(each, normalized=folds, special=True) for each in special])
        words.add_tokens([AddedToken(each, normalized=folds, special=False) for each in added])
        words.add_tokens([AddedToken("cardiomegaly", normalized=False, special=False)])
        self.tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=words, eos_token=end, extra_special_tokens=list(special)
        )
        self.markup = {*special, *added}

    def apply_chat_template(
        self, messages: Sequence[Mapping[str, Any]], *, add_generation_prompt: bool, tokenize: bool
    ) -> str:
        """The text of a chat."""
        text: str = self.tokenizer.apply_chat_template(
            messages,
            chat_template=self.chat_template,
            add_generation_prompt=add_generation_prompt,
            tokenize=tokenize,
        )
        return text

    def prompts(self) -> Prompts:
        """Prompts of this processor."""
        return Prompts(self, ends=(self.tokenizer.eos_token,))
