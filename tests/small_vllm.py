"""A vLLM server of a hundred lines: real tokens, made-up texts, no model. Obviously right."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
from PIL import Image

from illume_plugin.base_model import Prompts, encode_prompts

BASE = "embedded"


class SmallVllm:
    """Says "<model> <seed>." to every chat; attributes are what a test may change.

    Attributes:
        requests: paths and bodies, in order of arrival.
        runtime_loading: whether it was started with VLLM_ALLOW_RUNTIME_LORA_UPDATING.
        refusal: what it says to adapters it does not take: (status, message).
        ignores: whether adapters change nothing.
        tells_prompts: whether it answers `prompt_logprobs`.
        behind: token ids that its template writes behind a reply.
        after_top_k: whether log-probabilities are taken after top-k.
        shifts: whether its template is another one.
    """

    def __init__(self, prompts: Prompts) -> None:
        self.prompts = prompts
        self.tokenizer = prompts.processor.tokenizer
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.adapters: dict[str, str] = {}
        self.runtime_loading = True
        self.refusal: tuple[int, str] | None = None
        self.ignores = self.tells_prompts = self.after_top_k = self.shifts = False
        self.behind: list[int] = []
        self.ends_at: int | None = None

    def asked(self, path: str) -> list[dict[str, Any]]:
        """Bodies of the requests to one path."""
        return [body for asked, body in self.requests if asked == path]

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        path, body = request.url.path, json.loads(request.content or b"{}")
        self.requests.append((path, body))
        name = path.rpartition("/")[2]
        status, answer = getattr(self, f"_{name}", lambda _: (404, "Not Found"))(body)
        if isinstance(answer, str) and status != 200:
            answer = {"error": {"message": answer, "code": status}}
        if isinstance(answer, str):
            return httpx.Response(status, text=answer)
        return httpx.Response(status, json=answer)

    def _models(self, _: Mapping[str, Any]) -> tuple[int, Any]:
        names = {BASE: None, **dict.fromkeys(self.adapters, BASE)}
        return 200, {"data": [{"id": name, "parent": parent} for name, parent in names.items()]}

    def _tokenize(self, body: Mapping[str, Any]) -> tuple[int, Any]:
        return 200, {"tokens": self._tokens(body["messages"], reply=True) + [7] * self.shifts}

    def _load_lora_adapter(self, body: Mapping[str, Any]) -> tuple[int, Any]:
        if not self.runtime_loading:
            return 404, "Not Found"
        if self.refusal:
            return self.refusal
        self.adapters[body["lora_name"]] = body["lora_path"]
        return 200, "Success"

    def _unload_lora_adapter(self, body: Mapping[str, Any]) -> tuple[int, Any]:
        known = self.adapters.pop(body["lora_name"], None)
        return (200, "Success") if known else (404, "cannot be found")

    def _completions(self, body: Mapping[str, Any]) -> tuple[int, Any]:
        model = body["model"]
        if model != BASE and model not in self.adapters:
            return 404, f"The model `{model}` does not exist."
        if "prompt_logprobs" in body:
            return 200, {"choices": [], **self._told(body)}
        seeds = [body.get("seed", 0) + i for i in range(body.get("n", 1))]
        said = model if model != BASE and not self.ignores else BASE
        choices = [self._choice(i, f"{said} {seed}.", body) for i, seed in enumerate(seeds)]
        return 200, {"choices": choices[::-1]}

    def _choice(self, index: int, text: str, body: Mapping[str, Any]) -> dict[str, Any]:
        tokens = [*self.tokenizer(f" {text}", add_special_tokens=False)["input_ids"], *self._end_ids()]
        logprob = 0.0 if self.after_top_k else -0.5 - len(text) / 100
        return {
            "index": index,
            "message": {"content": f" {text}"},
            "finish_reason": "length" if index == self.ends_at else "stop",
            "token_ids": tokens,
            "logprobs": {"content": [{"logprob": logprob}] * len(tokens)},
        }

    def _told(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """log P of token i is -i / 100."""
        if not self.tells_prompts:
            return {}
        ids = [*self._tokens(body["messages"], reply=False), *self.behind]
        told: list[Any] = [{str(token): {"logprob": -i / 100}} for i, token in enumerate(ids)]
        return {"prompt_logprobs": [None, *told[1:]]}

    def _end_ids(self) -> list[int]:
        return [self.tokenizer.convert_tokens_to_ids(self.prompts.ends[0])]

    def _tokens(self, messages: Any, *, reply: bool) -> list[int]:
        pictures = []
        chat = []
        for message in messages:
            parts = []
            for part in message["content"]:
                if part["type"] == "image_url":
                    pictures.append(opened(part["image_url"]["url"]))
                parts.append({"type": "image"} if part["type"] == "image_url" else part)
            chat.append({"role": message["role"], "content": parts})
        text = self.prompts.processor.apply_chat_template(chat, add_generation_prompt=reply, tokenize=False)
        if not pictures:
            return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        found: list[int] = encode_prompts(self.prompts, [text], pictures)["input_ids"][0].tolist()
        return found


def opened(url: str) -> Image.Image:
    """The picture in a data URL."""
    head, _, content = url.partition(";base64,")
    picture = Image.open(io.BytesIO(base64.b64decode(content, validate=True)))
    assert head == f"data:image/{(picture.format or '').lower()}"
    return picture.convert("RGB")


def copied(folder: Path, into: Path) -> Path:
    """A copy of an adapter's files, to be damaged."""
    into.mkdir()
    for path in folder.iterdir():
        (into / path.name).write_bytes(path.read_bytes())
    return into
