"""Adapters on a vLLM server: loaded and unloaded at run time, one name for each content.

The server takes an adapter by the path of its folder, so it must see the same files. It accepts adapters
whose weights it then ignores (another name, another part of the model), silently; those are refused here.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from illume_plugin.errors import IllumeError, ModelError
from illume_plugin.generation.vllm.answers import served
from illume_plugin.generation.vllm.client import VllmClient
from illume_plugin.generation.vllm.failures import RefusedError

_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
#: Parts of a model beside its language part, as architectures call them.
_ELSEWHERE = re.compile(r"\b\w*(vision|visual|image|project|connector|merger|resampler|audio)\w*\.")


class ServerAdapters:
    """The adapters that this process uses on a server, by our names. Safe to share between threads.

    An adapter's name on the server ends with the hash of its files: several processes, even several
    installations, may use one server, and a name never changes its meaning.

    Args:
        model: the server's name of the base model.
        probe: what the model of a server name says to a fixed task (`meeting.probe`).
        folders: the folder that holds all adapters, and the same folder as the server sees it; None where it
            has the same path there.
    """

    def __init__(
        self,
        client: VllmClient,
        model: str,
        probe: Callable[[str], tuple[float, ...]],
        *,
        folders: tuple[Path, Path] | None = None,
    ) -> None:
        self.model = model
        self._client = client
        self._probe = probe
        self._folders = folders
        self._known: dict[str, tuple[str, Path]] = {}
        self._lock = threading.Lock()

    def has(self, name: str) -> bool:
        """Whether the server has our adapter of that name now: it forgets all of them when it restarts."""
        return name in self._known and self.on_server(name) in self._served()

    def on_server(self, name: str | None) -> str:
        """What the server calls our adapter; None is the base model.

        Raises:
            ModelError: no adapter of that name was loaded.
        """
        if name is None:
            return self.model
        if name not in self._known:
            raise _not_loaded(name, self._known)
        return self._known[name][0]

    def load(self, name: str, folder: Path) -> None:
        """Let the server load the adapter in `folder`, beside the others.

        Raises:
            ModelError: it is damaged, does not fit, or the server does not take adapters.
        """
        _check(folder)
        served_as = f"{name}-{_hash(folder)}"
        with self._lock:
            if served_as not in self._served():
                self._load(served_as, folder)
            self._known[name] = served_as, folder

    def restore(self, name: str) -> None:
        """Load an adapter again that the server has lost: it restarted, or another process dropped it."""
        self.load(name, self._known[name][1])

    def drop(self, name: str) -> None:
        """Let the server forget an adapter; another process that still uses it will load it again."""
        with self._lock:
            served_as = self.on_server(name)
            del self._known[name]
        try:
            self._client.post("/v1/unload_lora_adapter", {"lora_name": served_as})
        except RefusedError as error:
            if error.answered != 404:  # gone already
                raise

    def _served(self) -> dict[str, str | None]:
        answer = self._client.get("/v1/models")
        return self._client.read("/v1/models", lambda: served(answer))

    def _load(self, served_as: str, folder: Path) -> None:
        body = {"lora_name": served_as, "lora_path": str(self._there(folder))}
        try:
            self._client.post("/v1/load_lora_adapter", body, repeat=False)
        except RefusedError as error:
            if "already been loaded" in error.detail:
                return  # another process was faster
            raise _explained(error, folder, self._there(folder)) from error
        if _changes_anything(folder) and self._probe(served_as) == self._probe(self.model) != ():
            self._client.post("/v1/unload_lora_adapter", {"lora_name": served_as})
            raise _misfit(folder, "the server took it and answers as if it were not there")

    def _there(self, folder: Path) -> Path:
        """The folder as the server sees it."""
        folder = folder.absolute()
        if self._folders is None:
            return folder
        ours, theirs = self._folders
        return theirs / folder.relative_to(ours.absolute())


def _check(folder: Path) -> None:
    """Refuse what the server would take and then ignore or compute wrongly."""
    try:
        config = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
        kind, rank, patterns = config["peft_type"], config["r"], config.get("rank_pattern")
        shapes = dict(_shapes(folder))
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise _misfit(folder, f"{type(error).__name__}: {error}") from error
    if kind != "LORA":
        raise _misfit(folder, f"its type is {kind}, not LORA")
    if elsewhere := next((key for key in shapes if _ELSEWHERE.search(key)), None):
        raise _misfit(folder, f"{elsewhere} is outside the language part, where vLLM ignores adapters")
    ranks = {shape[0] for key, shape in shapes.items() if ".lora_A." in key}
    if not patterns and ranks != {rank}:
        raise _misfit(folder, f"its weights have rank {sorted(ranks)}, its configuration says {rank}")


def _shapes(folder: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    with safe_open(folder / _WEIGHTS, framework="np") as weights:
        for key in weights.keys():  # noqa: SIM118 - it is no dictionary
            yield key, tuple(weights.get_slice(key).get_shape())


def _changes_anything(folder: Path) -> bool:
    """Whether the adapter is trained at all: a new one has zeros and rightly changes nothing."""
    with safe_open(folder / _WEIGHTS, framework="pt") as weights:
        return any(bool(weights.get_tensor(key).any()) for key in weights.keys() if ".lora_B." in key)  # noqa: SIM118


def _hash(folder: Path) -> str:
    digest = hashlib.sha256()
    for name in (_CONFIG, _WEIGHTS):
        with (folder / name).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:12]


def _explained(error: RefusedError, folder: Path, there: Path) -> IllumeError:
    """A refusal to load, with what mends it."""
    if found := re.search(r"rank (\d+) is greater than max_lora_rank (\d+)", error.detail):
        rank, allowed = found.groups()
        return ModelError(
            f"The adapter in {folder} has rank {rank}; the vLLM server takes rank {allowed} at most.",
            todo=f"Start it with --max-lora-rank {rank} or more, or train with a smaller rank.",
        )
    if "No adapter found" in error.detail:
        return ModelError(
            f"The vLLM server finds no adapter at {there}.",
            why="It reads adapters from its own disk.",
            todo="Share our adapters with it; where they have another path there, set ILLUME_VLLM_ADAPTERS.",
        )
    if error.answered in (404, 405):
        return ModelError(
            "The vLLM server does not load adapters at run time.",
            why="Without that it can serve the base model only.",
            todo="Start it with VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 in its environment and --enable-lora.",
        )
    if "lora" in error.detail.lower() and "enable" in error.detail.lower():
        return ModelError(error.what, todo="Start the vLLM server with --enable-lora.")
    return _misfit(folder, error.detail.rstrip("."))


def _misfit(folder: Path, reason: str) -> ModelError:
    return ModelError(
        f"The adapter in {folder} cannot be loaded: {reason}.",
        why="It is damaged, or it was trained on another base model.",
        todo="Publish it again, or roll back to a version that loads.",
    )


def _not_loaded(name: str, names: dict[str, Any]) -> ModelError:
    return ModelError(
        f"No adapter named {name!r} is loaded.",
        why=f"Loaded are: {', '.join(names) or 'none'}.",
        todo="Load it first.",
    )
