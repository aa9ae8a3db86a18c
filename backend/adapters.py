"""The adapters that the generator holds: loaded on first use beside each other, dropped when too many."""

from __future__ import annotations

import logging
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from illume_plugin.generation.generator import Generator
from illume_plugin.registry import Registry
from illume_plugin.types import BASE_VERSION

log = logging.getLogger(__name__)


class LoadedAdapters:
    """The adapters of all projects, on one base model.

    Args:
        generator: gives the generator, which may be loaded for it.
        most: adapters that stay loaded while nobody uses them; the least recently used goes first.
    """

    def __init__(self, generator: Callable[[], Generator], registry: Registry, *, most: int) -> None:
        self._generator = generator
        self._registry = registry
        self._most = most
        self._lock = threading.Lock()
        self._loaded: OrderedDict[str, None] = OrderedDict()
        self._users: Counter[str] = Counter()

    @contextmanager
    def using(self, project_id: int, version: str) -> Iterator[str | None]:
        """The name under which the generator knows this version's adapter, None for the base model.

        It stays loaded until the block ends, whatever is switched to meanwhile.

        Raises:
            ModelError: the adapter on disk is damaged or does not fit the base model; the others go on.
        """
        if version == BASE_VERSION:
            yield None
            return
        generator = self._generator()
        name = f"p{project_id}-{version}"
        self._take(generator, name, project_id, version)
        try:
            yield name
        finally:
            self._give_back(generator, name)

    def _take(self, generator: Generator, name: str, project_id: int, version: str) -> None:
        with self._lock:
            if not generator.has(name):
                self._registry.verify(project_id, version)
                generator.load_adapter(name, self._registry.folder(project_id, version))
                log.info("loaded adapter %s of project %d", version, project_id)
            self._loaded[name] = None
            self._loaded.move_to_end(name)
            self._users[name] += 1

    def _give_back(self, generator: Generator, name: str) -> None:
        with self._lock:
            self._users[name] -= 1
            idle = [one for one in self._loaded if not self._users[one]]
            for one in idle[: max(0, len(self._loaded) - self._most)]:
                del self._loaded[one], self._users[one]
                generator.drop_adapter(one)
                log.info("dropped adapter %s", one)
