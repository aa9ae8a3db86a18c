"""The rationale prompt in other words than the base model's own."""

from __future__ import annotations

from dataclasses import replace

from illume_plugin.base_model import Prompts
from illume_plugin.base_model.prompts import Message
from illume_plugin.errors import ModelError
from illume_plugin.generation.generator import SampleRequest
from illume_plugin.types import Task

#: What a plain prompt says between answer and rationale (`Prompts.rationale`).
OWN_SUFFIX = "seeing that"


def worded(prompts: Prompts, wording: str | None) -> Prompts:
    """The prompts of a chat model with another question why; None keeps its own."""
    return prompts if wording is None else replace(prompts, why=wording)


def prompt_of(prompts: Prompts, wording: str | None, request: SampleRequest) -> str:
    """Text after which the model tells what is asked for; a wish is put in one way only."""
    task, wish = request.task, request.conversation
    if wish is None:
        return rationale_prompt(prompts, wording, task)
    return prompts.refinement(task.question, task.answer, wish.before, wish.text)


def messages_of(prompts: Prompts, wording: str | None, request: SampleRequest) -> list[Message]:
    """The chat after which a chat model tells what is asked for."""
    task, wish = request.task, request.conversation
    if wish is None:
        return worded(prompts, wording).rationale_messages(task.question, task.answer)
    return prompts.refinement_messages(task.question, task.answer, wish.before, wish.text)


def rationale_prompt(prompts: Prompts, wording: str | None, task: Task) -> str:
    """Text after which the model explains the task's answer.

    Args:
        wording: one of `SamplingPlan.wordings`; None for the base model's own.

    Raises:
        ModelError: a plain prompt does not end as plain prompts do.
    """
    if wording is None or prompts.chat:
        return worded(prompts, wording).rationale(task.question, task.answer)
    own = prompts.rationale(task.question, task.answer)
    if not own.endswith(OWN_SUFFIX):
        raise ModelError(
            f"The rationale prompt ends with {own[-20:]!r}, not with {OWN_SUFFIX!r}.",
            why="It cannot be said in other words.",
            todo="Unset ILLUME_SUFFIXES.",
        )
    return own.removesuffix(OWN_SUFFIX) + wording
