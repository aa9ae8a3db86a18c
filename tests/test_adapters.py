"""Adapters are loaded once, stay while somebody uses them, and go when there are too many."""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import SayingGenerator

from backend.adapters import LoadedAdapters
from illume_plugin.errors import ModelError
from illume_plugin.quantization import Quantization


class Shelf:
    """Stands in for the registry: version v0013 is damaged."""

    def __init__(self) -> None:
        self.verified: list[str] = []
        self.fetched: list[str] = []
        self.held: Counter[str] = Counter()

    @contextmanager
    def hold(self, project_id: int, version: str) -> Iterator[Path]:
        self.verified.append(version)
        if version == "v0013":
            raise ModelError("The adapter v0013 is damaged.")
        self.held[version] += 1
        try:
            yield Path(version)
        finally:
            self.held[version] -= 1

    def fetch(self, project_id: int, version: str) -> None:
        self.fetched.append(version)

    def meta(self, project_id: int, version: str) -> SimpleNamespace:
        return SimpleNamespace(config={} if version == "v0001" else {"quantization": "nf4"})


@pytest.fixture
def generator() -> SayingGenerator:
    return SayingGenerator()


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def adapters(generator: SayingGenerator, shelf: Shelf) -> LoadedAdapters:
    return LoadedAdapters(lambda: generator, shelf, most=2)  # type: ignore[arg-type]


def used(adapters: LoadedAdapters, *versions: str, project_id: int = 7) -> None:
    for version in versions:
        with adapters.using(project_id, version):
            pass


def test_the_base_model_needs_no_adapter(adapters: LoadedAdapters, generator: SayingGenerator) -> None:
    with adapters.using(7, "v0000") as name:
        assert name is None
    assert not generator.adapters


def test_an_adapter_is_verified_and_loaded_once(
    adapters: LoadedAdapters, generator: SayingGenerator, shelf: Shelf
) -> None:
    used(adapters, "v0001", "v0001")
    assert generator.adapters == {"p7-v0001"}
    assert shelf.verified == ["v0001"]


def test_the_one_not_used_for_longest_goes(adapters: LoadedAdapters, generator: SayingGenerator) -> None:
    used(adapters, "v0001", "v0002", "v0001", "v0003")
    assert generator.adapters == {"p7-v0001", "p7-v0003"}


def test_projects_have_their_own(adapters: LoadedAdapters, generator: SayingGenerator) -> None:
    used(adapters, "v0001", project_id=7)
    used(adapters, "v0001", project_id=8)
    assert generator.adapters == {"p7-v0001", "p8-v0001"}


def test_one_in_use_stays_and_goes_later(adapters: LoadedAdapters, generator: SayingGenerator) -> None:
    with ExitStack() as stack:
        for version in ("v0001", "v0002", "v0003"):
            stack.enter_context(adapters.using(7, version))
        assert len(generator.adapters) == 3
    assert generator.adapters == {"p7-v0001", "p7-v0002"}


def test_a_damaged_one_is_refused_and_the_others_go_on(
    adapters: LoadedAdapters, generator: SayingGenerator
) -> None:
    used(adapters, "v0001")
    with pytest.raises(ModelError, match="damaged"):
        used(adapters, "v0013")
    used(adapters, "v0001", "v0002")
    assert generator.adapters == {"p7-v0001", "p7-v0002"}


def test_one_that_was_dropped_comes_back(
    adapters: LoadedAdapters, generator: SayingGenerator, shelf: Shelf
) -> None:
    used(adapters, "v0001", "v0002", "v0003", "v0001")
    assert generator.adapters == {"p7-v0003", "p7-v0001"}
    assert shelf.verified.count("v0001") == 2


def test_the_files_of_what_is_loaded_are_held_and_of_nothing_else(
    adapters: LoadedAdapters, generator: SayingGenerator, shelf: Shelf
) -> None:
    used(adapters, "v0001", "v0002", "v0003")
    assert +shelf.held == {"v0002": 1, "v0003": 1}
    generator.adapters.clear()  # a server that has restarted
    used(adapters, "v0002")
    assert +shelf.held == {"v0002": 1, "v0003": 1}


def test_one_that_does_not_fit_is_not_held(
    adapters: LoadedAdapters, generator: SayingGenerator, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    def misfit(name: str, folder: Path) -> None:
        raise ModelError("It does not fit.")

    monkeypatch.setattr(generator, "load_adapter", misfit)
    with pytest.raises(ModelError, match="fit"):
        used(adapters, "v0001")
    assert not +shelf.held


def test_only_what_is_not_loaded_is_fetched_beforehand(adapters: LoadedAdapters, shelf: Shelf) -> None:
    used(adapters, "v0001")
    for version in ("v0000", "v0001", "v0002"):
        adapters.prepare(7, version)
    assert shelf.fetched == ["v0002"]


@pytest.mark.parametrize(
    ("served", "version", "words"),
    [
        (Quantization.NONE, "v0001", ""),
        (Quantization.NONE, "v0002", "v0002 was trained on the base model with quantization nf4"),
        (Quantization.NF4, "v0001", "serves on one with nf4"),
        (Quantization.NF4, "v0002", ""),
        (None, "v0002", ""),
    ],
)
def test_an_adapter_on_a_base_model_in_other_bits_is_told_of(
    generator: SayingGenerator,
    shelf: Shelf,
    caplog: pytest.LogCaptureFixture,
    served: Quantization | None,
    version: str,
    words: str,
) -> None:
    used(LoadedAdapters(lambda: generator, shelf, most=2, quantization=served), version)  # type: ignore[arg-type]
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == bool(words)
    assert words in "".join(warnings)
