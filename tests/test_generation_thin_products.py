"""Products of a few rows, the other way round: the same numbers, and nothing left behind."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from illume_plugin.generation import thin_products as thin  # noqa: E402

pytestmark = pytest.mark.torch


def model(dtype: torch.dtype = torch.float32) -> torch.nn.ModuleDict:
    torch.manual_seed(0)
    layers = {
        "large": torch.nn.Linear(512, 300),
        "plain": torch.nn.Linear(300, 512, bias=False),
        "small": torch.nn.Linear(8, 8),
    }
    return torch.nn.ModuleDict(layers).to(dtype)


def swapped(layers: torch.nn.ModuleDict) -> set[str]:
    return {name for name, layer in layers.items() if "forward" in vars(layer)}


@pytest.mark.skipif(not torch._C.has_mkl, reason="the usual way is fine without MKL")
@pytest.mark.parametrize("rows", [1, 2, 25, thin.MANY - 1, thin.MANY, 100])
@pytest.mark.parametrize("name", ["large", "plain"])
def test_products_are_the_same(name: str, rows: int) -> None:
    layers = model()
    given = torch.randn(rows, 1, layers[name].in_features)
    with torch.inference_mode():
        expected = layers[name](given)
        with thin.thin_products(layers):
            assert swapped(layers) == {"large", "plain"}
            found = layers[name](given)
    assert found.is_contiguous()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_numbers_are_left_alone(dtype: torch.dtype) -> None:
    layers = model(dtype)
    with thin.thin_products(layers):
        assert swapped(layers) == set()


def test_nothing_stays_behind_and_hooks_of_others_stay() -> None:
    layers = model()
    hook = layers["plain"].forward = lambda given: given
    with pytest.raises(ZeroDivisionError), thin.thin_products(layers):
        raise ZeroDivisionError
    assert swapped(layers) == {"plain"}
    assert layers["plain"].forward is hook
