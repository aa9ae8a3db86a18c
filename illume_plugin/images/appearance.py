"""What a decoded picture looks like to people, as RGB pixels: upright, on white, in the screen's colours.

Compared with Chromium pixel by pixel (lab notes): it turns JPEG and PNG by their EXIF, not WebP; it drops the
lower byte of 16-bit grey; it takes CMYK without its profile, and RGB with it.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable

from PIL import ExifTags, Image, ImageCms

#: Formats whose EXIF turn browsers follow; Pillow itself follows TIFF's.
_TURNED = frozenset({"JPEG", "MPO", "PNG"})
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
#: Kinds of pixels that Pillow turns into RGB as everybody does.
_PLAIN_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"})
_EIGHT_BITS, _SIXTEEN_BITS = 0xFF, 0xFFFF
#: What broken metadata makes Pillow raise; the pixels are good all the same, and browsers show them.
_BROKEN_EXIF = (SyntaxError, ValueError, TypeError, KeyError, IndexError, struct.error)


def turn_of(picture: Image.Image) -> Image.Transpose | None:
    """How a loaded picture must be turned to stand as browsers show it; None where it stands already."""
    if picture.format not in _TURNED:
        return None
    try:
        orientation = picture.getexif().get(ExifTags.Base.Orientation)
    except _BROKEN_EXIF:
        return None
    return _TURNS.get(orientation) if isinstance(orientation, int) else None


def on_white(picture: Image.Image) -> Image.Image:
    """A loaded picture as RGB; what is transparent in it shows white.

    Raises:
        ValueError: its kind of pixels has no agreed look.
    """
    picture = _with_eight_bits(picture)
    if not picture.has_transparency_data:
        return picture if picture.mode == "RGB" else picture.convert("RGB")
    layered = picture.convert("RGBA")
    white = Image.new("RGB", layered.size, "white")
    white.paste(layered.convert("RGB"), mask=layered.getchannel("A"))
    return white


def in_srgb(picture: Image.Image, profile: bytes | None) -> Image.Image:
    """An RGB picture in the screen's colours.

    Args:
        profile: ICC profile that its numbers are meant in; None, a broken one, or one that is not of RGB
            colours changes nothing.
    """
    if not profile or is_srgb(profile):
        return picture
    try:
        meant = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        shown = ImageCms.profileToProfile(picture, meant, _screen())
    except (ImageCms.PyCMSError, OSError):
        return picture
    return shown or picture


def is_srgb(profile: bytes) -> bool:
    """Whether an ICC profile calls itself sRGB, as most cameras' do: converting would change nothing."""
    return b"sRGB" in profile or "sRGB".encode("utf-16-be") in profile


def _with_eight_bits(picture: Image.Image) -> Image.Image:
    mode = picture.mode
    if mode in _PLAIN_MODES:
        return picture
    if mode.startswith("I;16") or (mode == "I" and _fits(picture)):
        bright = mode != "I" or _highest(picture) > _EIGHT_BITS
        halved: Callable[[float], float] = lambda value: value * (1 / 256)  # noqa: E731 - Pillow wants a formula
        grey = picture.convert("I")
        return (grey.point(halved) if bright else grey).convert("L")
    raise ValueError(f"nobody can say how bright its numbers are (pixel format {mode})")


def _fits(picture: Image.Image) -> bool:
    lowest, highest = picture.getextrema()
    return float(lowest) >= 0 and float(highest) <= _SIXTEEN_BITS  # type: ignore[arg-type]


def _highest(picture: Image.Image) -> float:
    return float(picture.getextrema()[1])  # type: ignore[arg-type]


def _screen() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
