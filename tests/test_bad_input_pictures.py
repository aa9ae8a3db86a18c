"""What a picture file looks like to the base model: as in a browser, or refused in plain words."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageCms

from illume_plugin.errors import ImageError
from illume_plugin.images import is_seen_alike, open_picture
from illume_plugin.images import opening as module

RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)
#: Orientation -> where the red quarter is seen (right?, lower?) and whether sides change places.
TURNS = {
    1: (False, False, False),
    2: (True, False, False),
    3: (True, True, False),
    4: (False, True, False),
    5: (False, False, True),
    6: (True, False, True),
    7: (True, True, True),
    8: (False, True, True),
}


def quartered(mode: str = "RGB") -> Image.Image:
    """64 x 32: red above on the left, white elsewhere."""
    picture = Image.new("RGB", (64, 32), WHITE)
    picture.paste(RED, (0, 0, 32, 16))
    return picture.convert(mode)


def written(picture: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def turned(kind: str, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return written(quartered(), kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))


def opened(tmp_path: Path, content: bytes) -> Image.Image:
    path = tmp_path / "picture"
    path.write_bytes(content)
    return open_picture(path)


def near(one: object, other: tuple[int, int, int], *, off: int = 12) -> bool:
    assert isinstance(one, tuple)
    return all(abs(a - b) <= off for a, b in zip(one, other, strict=True))


# -- as people see it ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("orientation", TURNS)
def test_a_cameras_turn_is_applied(tmp_path: Path, kind: str, orientation: int) -> None:
    right, lower, sideways = TURNS[orientation]
    picture = opened(tmp_path, turned(kind, orientation))
    assert picture.size == ((32, 64) if sideways else (64, 32))
    width, height = picture.size
    corners = {
        (x, y): near(picture.getpixel(((width - 3) * x + 1, (height - 3) * y + 1)), RED, off=40)
        for x in (0, 1)
        for y in (0, 1)
    }
    assert [place for place, red in corners.items() if red] == [(int(right), int(lower))]


def test_browsers_do_not_turn_webp(tmp_path: Path) -> None:
    assert opened(tmp_path, turned("WEBP", 6)).size == (64, 32)


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_a_turn_that_is_none_is_ignored(tmp_path: Path, value: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = value
    assert opened(tmp_path, written(quartered(), "PNG", exif=exif)).size == (64, 32)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's words on broken metadata
@given(junk=st.binary(max_size=40))
@settings(max_examples=40)
def test_broken_exif_spoils_no_picture(tmp_path_factory: pytest.TempPathFactory, junk: bytes) -> None:
    exif = b"Exif\x00\x00MM\x00\x2a\x00\x00\x00\x08\x00\x01\x01\x12" + junk
    folder = tmp_path_factory.getbasetemp()
    assert sorted(opened(folder, written(quartered(), "JPEG", exif=exif)).size) == [32, 64]


def palette() -> bytes:
    picture = Image.new("P", (16, 16), 0)
    picture.putpalette([*RED, *BLUE])
    picture.paste(1, (8, 0, 16, 16))
    return written(picture, "PNG", transparency=0)


def half_seen(mode: str) -> bytes:
    """Blank on the left, opaque on the right."""
    picture = Image.new("RGBA", (16, 16), (0, 0, 0, 0))
    picture.paste((0, 0, 255, 255), (8, 0, 16, 16))
    return written(picture.convert(mode), "PNG")


def animated(kind: str) -> bytes:
    frames = [Image.new("RGB", (16, 16), colour) for colour in (RED, BLUE)]
    return written(frames[0], kind, save_all=True, append_images=frames[1:])


def with_profile(profile: bytes, kind: str = "PNG") -> bytes:
    return written(Image.new("RGB", (16, 16), RED), kind, icc_profile=profile)


def swapped_profile(name: str = "wide") -> bytes:
    """sRGB, but for red and blue, which have changed places."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = struct.unpack(">I", profile[128:132])[0]
    tags = {bytes(profile[at : at + 4]): at + 4 for at in range(132, 132 + 12 * count, 12)}
    red, blue = (slice(tags[tag], tags[tag] + 8) for tag in (b"rXYZ", b"bXYZ"))
    profile[red], profile[blue] = profile[blue], profile[red]
    return bytes(profile).replace("sRGB".encode("utf-16-be"), name[:4].encode("utf-16-be"))


@pytest.mark.parametrize(
    ("content", "left", "right"),
    [
        (written(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=100), RED, RED),
        (written(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "TIFF"), RED, RED),
        (written(Image.new("I;16", (16, 16), 30000), "PNG"), (117,) * 3, (117,) * 3),
        (written(Image.new("I;16", (16, 16), 65535), "PNG"), WHITE, WHITE),
        (written(Image.new("I;16", (16, 16), 30000), "TIFF"), (117,) * 3, (117,) * 3),
        (written(Image.new("I", (16, 16), 30000), "TIFF"), (117,) * 3, (117,) * 3),
        (written(Image.new("I", (16, 16), 200), "TIFF"), (200,) * 3, (200,) * 3),
        (written(Image.new("1", (16, 16), 1), "PNG"), WHITE, WHITE),
        (written(Image.new("L", (16, 16), 90), "JPEG"), (90,) * 3, (90,) * 3),
        (written(Image.new("L", (16, 16), 0), "PNG", transparency=0), WHITE, WHITE),
        (written(Image.new("RGB", (16, 16), RED), "PNG", transparency=RED), WHITE, WHITE),
        (palette(), WHITE, BLUE),
        (half_seen("RGBA"), WHITE, BLUE),
        (half_seen("LA"), WHITE, (29, 29, 29)),
        (written(Image.new("RGBA", (16, 16), (255, 0, 0, 128)), "PNG"), (255, 127, 127), (255, 127, 127)),
        (written(Image.new("RGBA", (16, 16), (0, 0, 0, 0)), "WEBP", lossless=True), WHITE, WHITE),
        (animated("GIF"), RED, RED),
        (animated("PNG"), RED, RED),
        (animated("WEBP"), RED, RED),
        (animated("TIFF"), RED, RED),
        (with_profile(swapped_profile()), BLUE, BLUE),
        (with_profile(swapped_profile(), "JPEG"), BLUE, BLUE),
        (with_profile(swapped_profile("sRGB")), RED, RED),
        (with_profile(b"no profile at all"), RED, RED),
        (written(Image.new("L", (16, 16), 90), "PNG", icc_profile=swapped_profile()), (90,) * 3, (90,) * 3),
    ],
)
def test_pixels_are_those_that_a_browser_shows(
    tmp_path: Path, content: bytes, left: tuple[int, int, int], right: tuple[int, int, int]
) -> None:
    picture = opened(tmp_path, content)
    assert picture.mode == "RGB"
    assert picture.size == (16, 16)
    assert near(picture.getpixel((3, 8)), left)
    assert near(picture.getpixel((12, 8)), right)


# -- sizes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "seen"),
    [((1, 1), (8, 8)), ((3, 5), (9, 15)), ((1, 200), (8, 1600)), ((8, 8), (8, 8)), ((7, 900), (14, 1800))],
)
def test_tiny_pictures_are_enlarged_evenly(
    tmp_path: Path, size: tuple[int, int], seen: tuple[int, int]
) -> None:
    picture = opened(tmp_path, written(Image.new("RGB", size, RED), "PNG"))
    assert picture.size == seen
    assert picture.getcolors() == [(seen[0] * seen[1], RED)]


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("limit", [2048, 1000, 300])
def test_large_pictures_are_kept_within_bounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, limit: int
) -> None:
    monkeypatch.setattr(module, "KEPT_PIXELS", limit)
    picture = opened(tmp_path, turned(kind, 6))
    assert limit / 5 < picture.width * picture.height <= limit
    assert picture.width < picture.height
    assert near(picture.getpixel((picture.width - 1, 0)), RED, off=60)
    assert near(picture.getpixel((0, picture.height - 1)), WHITE, off=60)


def test_a_large_jpeg_is_never_decoded_in_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = written(quartered(), "JPEG")
    decoded = []
    load = Image.Image.load
    monkeypatch.setattr(module, "KEPT_PIXELS", 600)
    monkeypatch.setattr(Image.Image, "load", lambda self: (decoded.append(self.size), load(self))[1])
    opened(tmp_path, content)
    assert max(decoded) == (32, 16)


# -- refusals ------------------------------------------------------------------------------------------


def bomb(width: int, height: int) -> bytes:
    return written(Image.new("1", (width, height)), "PNG")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is an empty file"),
        (b"<!doctype html>", "is not a picture: it begins with '<!doctype"),
        (b"\x89PNG\r\n\x1a\n", "damaged|not a picture"),
        (written(quartered(), "PNG")[:-30], "is damaged"),
        (written(quartered(), "JPEG")[:-200], "is damaged"),
        (written(quartered(), "WEBP")[:-20], "is damaged"),
        (written(quartered(), "TIFF")[:-200], "damaged|not a picture"),
        (bomb(20_000, 20_000), "pixels; at most 50000000 are accepted.*Shrink"),
        (bomb(10_000, 9_000), "(10000 x 9000|far too many) pixels; at most 50000000"),
        (bomb(20_000, 10), "20000 x 10 pixels: one side is more than 200 times"),
        (bomb(10, 20_000), "10 x 20000 pixels: one side"),
        (b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic", "is a HEIC picture.*JPEG or PNG"),
        (b"\x00\x00\x00\x1cftypmif1\x00\x00\x00\x00", "is a HEIC picture"),
        (b"\x00\x00\x00\x20ftypavif\x00\x00\x00\x00", "is an AVIF picture"),
        (b"<?xml version='1.0'?>\n<!-- made by x -->\n<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG"),
        (b"<svg/>", "an SVG drawing"),
        (b"%PDF-1.7\n", "a PDF document"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is not a picture"),
        (written(Image.new("F", (16, 16), 0.5), "TIFF"), "damaged: nobody can say how bright"),
        (written(Image.new("I", (16, 16), 1_000_000), "TIFF"), "damaged: nobody can say how bright"),
        (written(Image.new("LAB", (16, 16)), "TIFF"), "nobody can say how bright"),
    ],
)
def test_what_cannot_be_shown_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    with pytest.raises(ImageError, match=says) as caught:
        opened(tmp_path, content)
    assert str(tmp_path) not in str(caught.value)
    assert caught.value.todo


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="'gone' is gone"):
        open_picture(tmp_path / "gone")


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's words on broken metadata
@given(place=st.integers(0, 400), junk=st.binary(min_size=1, max_size=8))
@settings(max_examples=80)
def test_a_spoilt_file_is_a_picture_or_an_error_of_ours(
    tmp_path_factory: pytest.TempPathFactory, place: int, junk: bytes
) -> None:
    for kind in module.FORMATS:
        content = bytearray(written(quartered("P" if kind == "GIF" else "RGB"), kind))
        place %= len(content)
        content[place : place + len(junk)] = junk
        path = tmp_path_factory.getbasetemp() / "spoilt"
        path.write_bytes(content)
        try:
            assert open_picture(path, max_pixels=100_000).mode == "RGB"
        except ImageError:
            continue  # any other kind of error is a fault of ours


# -- what may travel as it is --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "alike"),
    [
        (turned("JPEG", 1), True),
        (turned("JPEG", 6), False),
        (written(quartered(), "JPEG", icc_profile=swapped_profile("sRGB")), True),
        (written(quartered(), "JPEG", icc_profile=swapped_profile()), False),
        (written(quartered("CMYK"), "JPEG"), False),
        (written(quartered(), "PNG"), False),
        (written(Image.new("RGB", (4, 4)), "JPEG"), False),
    ],
)
def test_which_files_every_reader_sees_alike(content: bytes, alike: bool) -> None:
    with Image.open(io.BytesIO(content)) as picture:
        assert is_seen_alike(picture) is alike


def test_the_largest_picture_that_is_accepted_is_within_pillows_own_limit() -> None:
    limit = Image.MAX_IMAGE_PIXELS
    assert limit is not None
    assert limit > module.MAX_PIXELS > module.KEPT_PIXELS
