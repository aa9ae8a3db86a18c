"""Products with weights laid out beforehand: the same numbers, of the weights as they are now."""

from __future__ import annotations

import gc

import pytest

torch = pytest.importorskip("torch")

from illume_plugin.base_model import packed_products as packed  # noqa: E402

pytestmark = pytest.mark.torch

needs_mkl = pytest.mark.skipif(not torch._C.has_mkl, reason="the usual way is taken without MKL")
LARGE = {"large", "plain"}


@pytest.fixture
def layers() -> torch.nn.ModuleDict:
    torch.manual_seed(0)
    layers = {
        "large": torch.nn.Linear(512, 300),
        "plain": torch.nn.Linear(300, 512, bias=False),
        "small": torch.nn.Linear(8, 8),
    }
    return torch.nn.ModuleDict(layers).requires_grad_(False)


def changed(layers: torch.nn.ModuleDict) -> set[str]:
    return {name for name, layer in layers.items() if "forward" in vars(layer)}


def copied(layers: torch.nn.ModuleDict) -> set[str]:
    found = {name: packed._known(layer) for name, layer in layers.items()}
    return {name for name, copy in found.items() if copy is not None and copy.packed is not None}


def compare(layers: torch.nn.ModuleDict, name: str, given: torch.Tensor) -> None:
    with torch.inference_mode():
        expected = layers[name](given)
        with packed.packed_products(layers):
            assert changed(layers) == LARGE
            found = layers[name](given)
    assert found.is_contiguous()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@needs_mkl
@pytest.mark.parametrize("shape", [(), (1,), (0,), (2, 1), (25, 1), (1, 63), (64, 1), (1, 255), (3, 300)])
@pytest.mark.parametrize("name", sorted(LARGE))
@pytest.mark.parametrize("share", [packed.SHARE, 0], ids=["copies", "no room for copies"])
def test_products_are_the_same(
    layers: torch.nn.ModuleDict,
    name: str,
    shape: tuple[int, ...],
    share: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(packed, "SHARE", share)
    width = layers[name].in_features
    compare(layers, name, torch.randn(*shape, width))
    assert copied(layers) == (LARGE if share else set())
    if len(shape) == 2:
        compare(layers, name, torch.randn(width, *shape).movedim(0, -1))  # rows that lie as columns


@needs_mkl
def test_copies_are_made_once_and_of_the_weights_as_they_are(layers: torch.nn.ModuleDict) -> None:
    given = torch.randn(25, 512)
    compare(layers, "large", given)
    before = packed._known(layers["large"])
    compare(layers, "large", given)
    assert packed._known(layers["large"]) is before
    layers["large"].weight.mul_(2)
    compare(layers, "large", given)
    layers["large"].weight = torch.nn.Parameter(torch.randn(300, 512), requires_grad=False)
    compare(layers, "large", given)


@needs_mkl
def test_copies_take_a_share_of_the_memory_that_is_free(
    layers: torch.nn.ModuleDict, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = layers["large"].weight.nbytes
    monkeypatch.setattr(packed, "_available", lambda: 1.5 * one / packed.SHARE)
    for _ in range(3):
        with packed.packed_products(layers):
            assert copied(layers) == {"large"}, "no more of it the next time"


@needs_mkl
def test_a_model_in_training_gets_no_copies(layers: torch.nn.ModuleDict) -> None:
    layers["small"].requires_grad_(True)
    with packed.packed_products(layers):
        assert changed(layers) == LARGE
        assert copied(layers) == set()


@needs_mkl
def test_copies_go_with_their_layers(layers: torch.nn.ModuleDict) -> None:
    with packed.packed_products(layers):
        pass
    held = len(packed._copies)
    del layers["large"]
    gc.collect()
    assert len(packed._copies) == held - 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_numbers_are_left_alone(layers: torch.nn.ModuleDict, dtype: torch.dtype) -> None:
    with packed.packed_products(layers.to(dtype)):
        assert changed(layers) == set()


def test_weights_whose_changes_nobody_counts_are_left_alone(layers: torch.nn.ModuleDict) -> None:
    with torch.inference_mode():
        layers["plain"] = torch.nn.Linear(300, 512, bias=False)
        with packed.packed_products(layers):
            assert "plain" not in changed(layers)


def test_nothing_stays_behind_and_hooks_of_others_stay(layers: torch.nn.ModuleDict) -> None:
    hook = layers["plain"].forward = lambda given: given
    with pytest.raises(ZeroDivisionError), packed.packed_products(layers):
        raise ZeroDivisionError
    assert changed(layers) == {"plain"}
    assert layers["plain"].forward is hook


def test_inside_itself_it_does_nothing(layers: torch.nn.ModuleDict) -> None:
    with packed.packed_products(layers):
        outer = changed(layers)
        with packed.packed_products(layers):
            assert changed(layers) == outer
        assert changed(layers) == outer
    assert changed(layers) == set()
