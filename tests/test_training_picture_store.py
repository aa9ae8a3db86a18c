"""Pictures of a run: in memory as far as it goes, on disk beyond, and joined to batches."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from illume_plugin.errors import RunError  # noqa: E402
from illume_plugin.training.features import as_encoder_outputs, joined_pixels  # noqa: E402
from illume_plugin.training.picture_store import PictureStore  # noqa: E402

pytestmark = pytest.mark.torch

HERE = torch.device("cpu")


def picture(number: int) -> dict[str, torch.Tensor]:
    """400 bytes in float32."""
    return {"whole": torch.full((10, 10), float(number))}


def test_what_does_not_fit_comes_back_from_disk(tmp_path: Path) -> None:
    store = PictureStore(tmp_path / "store", in_memory=1000)
    for number in range(5):
        store.put(f"/{number}.png", picture(number))
    assert len(list((tmp_path / "store").iterdir())) == 3
    for number in (0, 4, 2, 0, 1, 3):
        assert f"/{number}.png" in store
        assert torch.equal(store.get(f"/{number}.png")["whole"], picture(number)["whole"])
    assert len(list((tmp_path / "store").iterdir())) == 5, "each is written once"
    assert "/5.png" not in store


def test_nothing_is_written_while_memory_suffices(tmp_path: Path) -> None:
    store = PictureStore(tmp_path / "store", in_memory=1000)
    store.put("/1.png", picture(1))
    store.put("/2.png", picture(2))
    assert not (tmp_path / "store").exists()


def test_one_picture_larger_than_the_limit_is_kept(tmp_path: Path) -> None:
    store = PictureStore(tmp_path / "store", in_memory=1)
    store.put("/1.png", {"whole": torch.ones(3, dtype=torch.bfloat16)})
    assert store.get("/1.png")["whole"].dtype == torch.bfloat16


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("no folder")
    store = PictureStore(tmp_path / "store", in_memory=1)
    store.put("/1.png", picture(1))
    with pytest.raises(RunError, match="cannot be kept"):
        store.put("/2.png", picture(2))


def test_pixels_of_pictures_with_different_tiles_are_padded_with_zeros() -> None:
    two = {"pixel_values": torch.ones(1, 2, 3, 4, 4), "pixel_attention_mask": torch.ones(1, 2, 4, 4)}
    three = {"pixel_values": torch.ones(1, 3, 3, 4, 4), "pixel_attention_mask": torch.ones(1, 3, 4, 4)}
    joined = joined_pixels([two, three])
    assert joined["pixel_values"].shape == (2, 3, 3, 4, 4)
    assert joined["pixel_values"].sum(dim=(1, 2, 3, 4)).tolist() == [96, 144]
    assert joined["pixel_attention_mask"].sum(dim=(1, 2, 3)).tolist() == [32, 48]


def test_flat_patches_are_strung_together() -> None:
    joined = joined_pixels([{"pixel_values": torch.ones(16, 7)}, {"pixel_values": torch.ones(4, 7)}])
    assert joined["pixel_values"].shape == (20, 7)


def test_features_are_joined_as_the_model_gave_them() -> None:
    whole = as_encoder_outputs([picture(1), picture(2)], HERE)["image"].pooler_output
    assert whole.shape == (20, 10)
    parts = as_encoder_outputs(
        [{"part0": torch.ones(4, 2), "part1": torch.ones(2, 2)}, {"part0": torch.ones(3, 2)}], HERE
    )["image"].pooler_output
    assert [len(part) for part in parts] == [4, 2, 3]
