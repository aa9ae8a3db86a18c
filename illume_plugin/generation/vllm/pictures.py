"""Pictures as a server gets them: in the request itself, the same pixels that this process would read."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from PIL import Image

from illume_plugin.base_model import open_image
from illume_plugin.errors import ImageError
from illume_plugin.images import is_seen_alike

#: Largest file that is put into a request.
MAX_BYTES = 20_000_000

#: Exactly as they are, otherwise very nearly so.
_WRITTEN: tuple[tuple[str, dict[str, int]], ...] = (
    ("png", {"compress_level": 1}),
    ("jpeg", {"quality": 95, "subsampling": 0}),
)


def data_url(path: Path, *, max_bytes: int = MAX_BYTES) -> str:
    """The picture at `path` as a data URL.

    An upright RGB JPEG goes as it is. Anything else goes as what `open_image` makes of it, as PNG or, where
    that is too large, as JPEG: servers turn, flatten and convert pictures in ways of their own.

    Raises:
        ImageError: it cannot be read, or is larger than `max_bytes` however it is written.
    """
    kept = _kept(path)
    if kept is not None and len(kept) <= max_bytes:
        return _url("jpeg", kept)
    return picture_url(open_image(path), name=path.name, max_bytes=max_bytes)


def picture_url(picture: Image.Image, *, name: str = "", max_bytes: int = MAX_BYTES) -> str:
    """An RGB picture as a data URL.

    Raises:
        ImageError: it is larger than `max_bytes` however it is written.
    """
    for kind, options in _WRITTEN:
        written = io.BytesIO()
        picture.save(written, kind, **options)
        if written.tell() <= max_bytes:
            return _url(kind, written.getvalue())
    raise ImageError(
        f"The picture {name!r} ({picture.width} x {picture.height}) has more than {max_bytes} bytes.",
        why="It would have to be sent to the vLLM server with every request.",
        todo="Shrink it: the base model sees far less.",
    )


def _kept(path: Path) -> bytes | None:
    """The file itself, where every reader makes the same pixels of it."""
    try:
        with Image.open(path) as picture:
            alike = is_seen_alike(picture)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None  # `open_image` says what is wrong with it
    return path.read_bytes() if alike else None


def _url(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
