"""What is said to the base model: the answer prompt, the rationale prompt, and whole training texts.

Everything here is text. A chat model gets its own chat template; a model without one gets ILLUME's
plain prompts (arXiv 2208.08241): "Q: {question} A:" and "Q: {question} A: {answer}, seeing that".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from typing import Any

from illume_plugin.base_model.markup import plain_words
from illume_plugin.errors import TaskError

#: Our own wording of the question that asks a chat model for its rationale.
DEFAULT_WHY = "Why? Explain in one short sentence what in the picture shows it."

Message = Mapping[str, Any]

#: How what people said of a rationale begins (`feedback.condition_text`); only `Prompts.said` may.
_LIKE_FEEDBACK = re.compile(r"\[(\s*feedback\b)", re.IGNORECASE)


class Role(StrEnum):
    """What a stretch of a training text is, and so which loss its tokens belong to."""

    PROMPT = "prompt"
    ANSWER = "answer"
    RATIONALE = "rationale"


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of text with one role."""

    text: str
    role: Role


@dataclass(frozen=True)
class Prompts:
    """Renders tasks as the text that a processor expects, picture placeholder included.

    Attributes:
        processor: a Hugging Face processor with a tokenizer.
        ends: texts of the tokens that end a reply; the first one is appended where a chat template
            writes none.
        why: the question that asks for the rationale (chat models only).
        pictured: whether the texts hold the picture; False renders the same words without it.
        said: stands before the last thing that is asked for: what people said of the rationale that comes
            (`feedback.condition_text`). No text of a task can begin like it.
    """

    processor: Any
    ends: tuple[str, ...]
    why: str = DEFAULT_WHY
    pictured: bool = True
    said: str = ""

    def answer(self, question: str) -> str:
        """Text after which the model answers `question`."""
        if not self.chat:
            return f"{self._picture}Q: {self._asked(question)} A:"
        return self._render(self.answer_messages(question))

    def rationale(self, question: str, answer: str) -> str:
        """Text after which the model explains `answer`."""
        if not self.chat:
            return f"{self.answer(question)} {self._plain(answer)}, seeing that"
        return self._render(self.rationale_messages(question, answer))

    def answer_messages(self, question: str) -> list[Message]:
        """The chat after which a chat model answers `question`."""
        return [self._question(question)]

    def rationale_messages(self, question: str, answer: str) -> list[Message]:
        """The chat after which a chat model explains `answer`."""
        return [self._question(question), self._say("assistant", answer), self._say("user", self.why)]

    def told_messages(self, question: str, answer: str, rationale: str) -> list[Message]:
        """The chat in which a chat model has said the rationale."""
        return [*self.rationale_messages(question, answer), self._say("assistant", rationale)]

    def answer_only(self, question: str, answer: str) -> list[Piece]:
        """The text of a task without a rationale; the answer ends with an end token."""
        prompt = self.answer(question)
        reply = self._ended(self._answer_reply(prompt, question, answer))
        return [Piece(prompt, Role.PROMPT), Piece(reply, Role.ANSWER)]

    def explained(self, question: str, answer: str, rationale: str) -> list[Piece]:
        """The text of a task with its rationale: prompt, answer, the question why, rationale."""
        prompt = self.answer(question)
        reply = self._answer_reply(prompt, question, answer)
        why, told = self.told(question, answer, rationale)
        if not why.text.startswith(prompt + reply):  # the template rewrites earlier turns
            return [why, told]
        bridge = why.text[len(prompt + reply) :]
        return [Piece(prompt, Role.PROMPT), Piece(reply, Role.ANSWER), Piece(bridge, Role.PROMPT), told]

    def told(self, question: str, answer: str, rationale: str) -> tuple[Piece, Piece]:
        """The rationale prompt and, as the one stretch that is scored, the rationale with its end."""
        prompt = self.rationale(question, answer)
        messages = self.rationale_messages(question, answer) if self.chat else []
        reply = self._ended(self._reply(prompt, messages, rationale))
        return Piece(prompt, Role.PROMPT), Piece(reply, Role.RATIONALE)

    def refined(
        self, question: str, answer: str, before: str, wish: str, rationale: str
    ) -> tuple[Piece, Piece]:
        """The prompt after which the model tells another rationale than `before`, and that one with its end.

        Args:
            wish: what the next rationale should do otherwise.
        """
        prompt = self.refinement(question, answer, before, wish)
        messages = self.refinement_messages(question, answer, before, wish) if self.chat else []
        reply = self._ended(self._reply(prompt, messages, rationale))
        return Piece(prompt, Role.PROMPT), Piece(reply, Role.RATIONALE)

    def refinement(self, question: str, answer: str, before: str, wish: str) -> str:
        """Text after which the model tells another rationale than `before`, as wished."""
        if self.chat:
            return self._render(self.refinement_messages(question, answer, before, wish))
        told = f"{replace(self, said='').rationale(question, answer)} {self._plain(before)}"
        return f"{told}\nQ: {self._asked(wish)} A: {self._plain(answer)}, seeing that"

    def refinement_messages(self, question: str, answer: str, before: str, wish: str) -> list[Message]:
        """The chat after which a chat model tells another rationale than `before`, as wished."""
        first = replace(self, said="")
        asked: Message = {"role": "user", "content": [{"type": "text", "text": self._asked(wish)}]}
        return [*first.told_messages(question, answer, before), asked]

    def must_hold_words(self, question: str, answer: str) -> None:
        """Make sure that something is left of a task's texts once they are plain words.

        Raises:
            TaskError: one of them is nothing but markup.
        """
        for what, text in (("question", question), ("answer", answer)):
            if not self._plain(text):
                raise TaskError(
                    f"The {what} {text[:80]!r} holds no words.",
                    why="Marks of the base model's prompts are taken out of a task's texts.",
                    todo="Correct the task's data in Label Studio.",
                )

    @cached_property
    def chat(self) -> bool:
        """Whether the processor brings a chat template."""
        return getattr(self.processor, "chat_template", None) is not None

    @cached_property
    def add_special_tokens(self) -> bool:
        """Whether the tokenizer must add its start token: not where the template wrote it already."""
        bos = self.processor.tokenizer.bos_token
        return not (bos and self.answer("").startswith(bos))

    @property
    def _picture(self) -> str:
        return self._picture_token if self.pictured else ""

    @cached_property
    def _picture_token(self) -> str:
        token = getattr(self.processor, "image_token", None)
        return token if isinstance(token, str) else ""  # BLIP-like processors place the picture themselves

    def _plain(self, text: str) -> str:
        """`text` as plain words: a task's words must not end a turn, claim a second picture, or pass for
        what people said of a rationale."""
        return _LIKE_FEEDBACK.sub(r"(\1", plain_words(self.processor)(text))

    def _asked(self, text: str) -> str:
        """What is asked for, under what was said."""
        return f"{plain_words(self.processor)(self.said)} {self._plain(text)}".lstrip()

    def _question(self, question: str) -> Message:
        words = {"type": "text", "text": self._asked(question)}
        return {"role": "user", "content": [{"type": "image"}, words] if self.pictured else [words]}

    def _say(self, role: str, text: str) -> Message:
        return {"role": role, "content": [{"type": "text", "text": self._plain(text)}]}

    def _answer_reply(self, prompt: str, question: str, answer: str) -> str:
        return self._reply(prompt, self.answer_messages(question) if self.chat else [], answer)

    def _reply(self, prompt: str, messages: Sequence[Message], text: str) -> str:
        """What follows `prompt` when the model says `text`, up to and with the first end token."""
        if not self.chat:
            return f" {self._plain(text)}"
        whole = self._render([*messages, self._say("assistant", text)], reply=False)
        if not whole.startswith(prompt):  # e.g. templates that open a thinking block when prompting
            return f" {self._plain(text)}"
        reply = whole[len(prompt) :]
        stops = [reply.find(end) + len(end) for end in self.ends if end in reply]
        return reply[: min(stops)] if stops else reply.rstrip()

    def _ended(self, reply: str) -> str:
        return reply if reply.endswith(self.ends) else reply + self.ends[0]

    def _render(self, messages: Sequence[Message], *, reply: bool = True) -> str:
        return str(self.processor.apply_chat_template(messages, add_generation_prompt=reply, tokenize=False))
