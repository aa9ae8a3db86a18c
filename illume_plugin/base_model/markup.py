"""What is markup to a base model: found out from its tokenizer, its processor and its chat template."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from weakref import WeakKeyDictionary

from jinja2 import TemplateError

from illume_plugin.base_model.plain_words import PlainWords

#: The marks of our prompts for models without a chat template.
PLAIN_MARKS = ("Q:", "A:")

#: What tells markup from an ordinary word that was added to a vocabulary, like the name of an illness.
_BRACKETS = re.compile(r"[<>\[\]{}|]")
#: A word that marks a turn: letters with a colon (or a wide one) behind, or brackets or hashes about.
_MARK = re.compile(r"(?=.*\w)(?:.*[:：]|.*[<>\[\]{}|#].*)")
#: Stands for what is said in a chat, so that the template's own words can be told.
_SAID = "0said0"

_known: WeakKeyDictionary[Any, PlainWords] = WeakKeyDictionary()


def plain_words(processor: Any) -> PlainWords:
    """What makes plain words of a task's texts for a processor; found out once."""
    found = _known.get(processor)
    if found is None:
        found = _known[processor] = _found_out(processor)
    return found


def turn_marks(processor: Any) -> tuple[str, ...]:
    """The words by which the prompts of a processor mark turns, e.g. ("USER:", "ASSISTANT:")."""
    if getattr(processor, "chat_template", None) is None:
        return PLAIN_MARKS
    known = re.compile("|".join(map(re.escape, sorted(_tokens(processor), key=len, reverse=True))) or r"(?!)")
    words = (word for text in _chats(processor) for word in known.sub(" ", text).split())
    return tuple(dict.fromkeys(word for word in words if _MARK.fullmatch(word)))


def _found_out(processor: Any) -> PlainWords:
    tokenizer = processor.tokenizer
    tokens = _tokens(processor)
    # Letters that a tokenizer does not know become this one; that is no harm, and no markup either.
    unknown = tokenizer.unk_token if tokenizer.unk_token not in _ends(tokenizer) else None
    meaning = [token for token in tokens if token != unknown]
    return PlainWords(tokenizer, tokens, tokenizer.convert_tokens_to_ids(meaning), turn_marks(processor))


def _tokens(processor: Any) -> set[str]:
    """Texts that mean something beside their letters."""
    tokenizer = processor.tokenizer
    added = {str(token) for token in tokenizer.added_tokens_decoder.values()}
    # Processors look for the picture's place in the text before it is tokenised.
    places = {
        value for name, value in vars(processor).items() if name.endswith("_token") and isinstance(value, str)
    }
    places |= {token for token in [getattr(processor, "image_token", None)] if isinstance(token, str)}
    marked = {token for token in added if _BRACKETS.search(token)}
    return {*tokenizer.all_special_tokens, *marked, *places} - {""}


def _ends(tokenizer: Any) -> set[str]:
    return {tokenizer.bos_token, tokenizer.eos_token}


def _chats(processor: Any) -> Iterator[str]:
    """Chats as the template writes them, without what is said; with a system's turn where it takes one."""
    turns = [_turn(role) for role in ("user", "assistant", "user")]
    yield _rendered(processor, turns)
    try:
        yield _rendered(processor, [_turn("system"), *turns])
    except (TemplateError, ValueError, TypeError):
        return  # then no prompt has one


def _rendered(processor: Any, turns: list[Mapping[str, Any]]) -> str:
    text = processor.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    return str(text).replace(_SAID, " ")


def _turn(role: str) -> Mapping[str, Any]:
    return {"role": role, "content": [{"type": "text", "text": _SAID}]}
