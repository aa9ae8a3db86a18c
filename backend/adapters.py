"""The adapters that the generator holds: loaded on first use beside each other, dropped when too many."""

from __future__ import annotations

import logging
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from illume_plugin.generation.generator import Generator
from illume_plugin.quantization import Quantization, in_other_bits
from illume_plugin.registry import Registry
from illume_plugin.types import BASE_VERSION

log = logging.getLogger(__name__)


class LoadedAdapters:
    """The adapters of all projects, on one base model.

    Args:
        generator: gives the generator, which may be loaded for it.
        most: adapters that stay loaded while nobody uses them; the least recently used goes first.
        quantization: of the base model that they are loaded on; None: it is not ours, nothing is known.
    """

    def __init__(
        self,
        generator: Callable[[], Generator],
        registry: Registry,
        *,
        most: int,
        quantization: Quantization | None = None,
    ) -> None:
        self._generator = generator
        self._quantization = quantization
        self._registry = registry
        self._most = most
        self._lock = threading.Lock()
        self._loaded: OrderedDict[str, None] = OrderedDict()
        self._users: Counter[str] = Counter()
        #: Their files: a vLLM server that has restarted reads them again.
        self._files: dict[str, ExitStack] = {}

    @contextmanager
    def using(self, project_id: int, version: str) -> Iterator[str | None]:
        """The name under which the generator knows this version's adapter, None for the base model.

        It stays loaded until the block ends, whatever is switched to meanwhile.

        Raises:
            ModelError: the adapter is damaged or does not fit the base model; the others go on.
            NotFoundError, UnavailableError: it is not there, or cannot be had from where it is kept.
        """
        if version == BASE_VERSION:
            yield None
            return
        generator = self._generator()
        name = _name(project_id, version)
        self._take(generator, name, project_id, version)
        try:
            yield name
        finally:
            self._give_back(generator, name)

    def prepare(self, project_id: int, version: str) -> None:
        """Bring an adapter that is not loaded to this machine: whoever waits for others is not kept waiting.

        Raises:
            ModelError, NotFoundError, UnavailableError: as `using`.
        """
        if version != BASE_VERSION and _name(project_id, version) not in self._loaded:
            self._registry.fetch(project_id, version)

    def _take(self, generator: Generator, name: str, project_id: int, version: str) -> None:
        with self._lock:
            if not generator.has(name):
                self._load(generator, name, project_id, version)
            self._loaded[name] = None
            self._loaded.move_to_end(name)
            self._users[name] += 1

    def _load(self, generator: Generator, name: str, project_id: int, version: str) -> None:
        with ExitStack() as files:
            generator.load_adapter(name, files.enter_context(self._registry.hold(project_id, version)))
            self._let_go(name)
            self._files[name] = files.pop_all()
        log.info("loaded adapter %s of project %d", version, project_id)
        if self._quantization is not None:
            config = self._registry.meta(project_id, version).config
            if problem := in_other_bits(version, config, self._quantization):
                log.warning("project %d: %s", project_id, problem)

    def _let_go(self, name: str) -> None:
        if held := self._files.pop(name, None):
            held.close()

    def _give_back(self, generator: Generator, name: str) -> None:
        with self._lock:
            self._users[name] -= 1
            idle = [one for one in self._loaded if not self._users[one]]
            for one in idle[: max(0, len(self._loaded) - self._most)]:
                del self._loaded[one], self._users[one]
                generator.drop_adapter(one)
                self._let_go(one)
                log.info("dropped adapter %s", one)


def _name(project_id: int, version: str) -> str:
    """What the generator calls an adapter."""
    return f"p{project_id}-{version}"
