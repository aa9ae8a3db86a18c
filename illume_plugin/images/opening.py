"""From a picture file to the RGB pixels that a base model sees: the same as a browser shows on white.

This is the one place that decides which files are pictures. What cannot be shown faithfully is refused, in
plain words, before anything is sampled for it.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from illume_plugin.errors import ImageError
from illume_plugin.images.appearance import in_srgb, is_srgb, on_white, turn_of

#: Read by Pillow from bytes alone; formats that start other programs (EPS) or mean no picture are out.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
#: Width x height that is accepted, unless a store is told another limit.
MAX_PIXELS = 50_000_000
#: Larger pictures are halved until they fit; no processor of a base model takes more than this.
KEPT_PIXELS = 16_777_216
#: Longer side to shorter side. Processors cut or resize pictures to patches, and refuse narrower ones.
MAX_ASPECT = 200
#: A picture with a shorter side is enlarged: processors take up to 4 rows for colour channels.
MIN_SIDE = 8

#: How files begin that people take for pictures and that are refused by name.
_BY_NAME = (
    (b"ftypheic", "a HEIC picture"),
    (b"ftypheix", "a HEIC picture"),
    (b"ftypmif1", "a HEIC picture"),
    (b"ftypmsf1", "a HEIC picture"),
    (b"ftypavif", "an AVIF picture"),
    (b"<svg", "an SVG drawing"),
    (b"%PDF", "a PDF document"),
)
_OPENING = 1024

# Pillow's own warning comes before our limit, which is lower; told or not, the file is refused.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def open_picture(path: Path, *, name: str = "", max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The picture in a file as RGB pixels, at most KEPT_PIXELS of them.

    Of several frames or pages the first counts; a camera's turn (EXIF) and colour profile are applied as
    browsers apply them; what is transparent shows white; 16 bits become 8 without losing the bright half.

    Args:
        name: what people call the picture; otherwise the file's name.
        max_pixels: largest width x height accepted.

    Raises:
        ImageError: there is no file, it is no picture, it is damaged, too large or too narrow.
    """
    name = name or path.name
    with reading(path, name), Image.open(path, formats=FORMATS) as picture:
        must_be_bearable(picture, name, max_pixels)
        factor = _shrinking(picture)
        # A JPEG can be decoded at half its size, so that the large one is never in memory.
        picture.draft(None, (picture.width // factor, picture.height // factor))
        picture.load()
        seen = on_white(picture)
        seen = seen.reduce(factor) if (factor := _shrinking(seen)) > 1 else seen
        seen = in_srgb(seen, picture.info.get("icc_profile"))
        turn = turn_of(picture)
        return _enlarged(seen if turn is None else seen.transpose(turn))


def is_seen_alike(picture: Image.Image) -> bool:
    """Whether every reader makes the same pixels of a file as `open_picture`: an upright, ordinary JPEG."""
    return (
        picture.format == "JPEG"
        and picture.mode == "RGB"
        and turn_of(picture) is None
        and is_srgb(picture.info.get("icc_profile") or b"sRGB")
        and _shrinking(picture) == 1
        and min(picture.size) >= MIN_SIDE
    )


def must_be_bearable(picture: Image.Image, name: str, max_pixels: int = MAX_PIXELS) -> None:
    """Judge a picture by its header.

    Raises:
        ImageError: it has too many pixels, or is too narrow.
    """
    width, height = picture.size
    if width * height > max_pixels:
        raise _too_many(name, f"{width} x {height}", max_pixels)
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise ImageError(
            f"The picture {name!r} is {width} x {height} pixels: one side is more than {MAX_ASPECT} times "
            "the other.",
            why="Base models see pictures as square patches; nothing of this one would be left.",
            todo="Cut it into pieces, or skip the task.",
        )


@contextmanager
def reading(path: Path, name: str) -> Iterator[None]:
    """Whatever Pillow says of a file inside, as an ImageError that a person can act on."""
    try:
        if path.stat().st_size == 0:
            raise ImageError(f"The picture {name!r} is an empty file.", todo="Upload it again.")
        yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_many(name, "far too many", MAX_PIXELS) from error
    except UnidentifiedImageError as error:
        raise _no_picture(path, name) from error
    except FileNotFoundError as error:
        raise ImageError(
            f"The file of the picture {name!r} is gone.", todo="Ask again: it is fetched anew."
        ) from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise ImageError(
            f"The picture {name!r} is damaged: {str(error).rstrip('.')}.",
            todo="Upload it again, or skip the task.",
        ) from error


def _shrinking(picture: Image.Image) -> int:
    """The whole factor by which the sides must be divided for KEPT_PIXELS."""
    return next(
        factor
        for factor in count(1)
        if math.ceil(picture.width / factor) * math.ceil(picture.height / factor) <= KEPT_PIXELS
    )


def _enlarged(picture: Image.Image) -> Image.Image:
    """Each pixel as a square of several, where a side could be taken for a row of colour channels."""
    factor = math.ceil(MIN_SIDE / min(picture.size))
    if factor == 1:
        return picture
    size = picture.width * factor, picture.height * factor
    return picture.resize(size, Image.Resampling.NEAREST)


def _too_many(name: str, size: str, most: int) -> ImageError:
    return ImageError(
        f"The picture {name!r} has {size} pixels; at most {most} are accepted.",
        todo="Shrink it: the base model sees far fewer.",
    )


def _no_picture(path: Path, name: str) -> ImageError:
    with path.open("rb") as file:
        opening = file.read(_OPENING)
    known = next((kind for sign, kind in _BY_NAME if sign in opening), None)
    if known:
        return ImageError(
            f"{name!r} is {known}, which cannot be read.",
            why=f"Only {', '.join(FORMATS)} are read; annotators' browsers may show others.",
            todo="Save it as JPEG or PNG and upload that.",
        )
    return ImageError(
        f"{name!r} is not a picture: it begins with {opening[:40].decode('latin-1')!r}.",
        todo=f"Use one of {', '.join(FORMATS)}; a page of text often means that a login is missing.",
    )
