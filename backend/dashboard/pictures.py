"""Pictures of tasks, made small and written anew: no address and no byte of an outsider reaches the page."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from pathlib import Path

from illume_plugin.errors import UnavailableError
from illume_plugin.images.opening import open_picture

#: Longer side of what is sent, pixels.
LARGEST = 512
CONTENT_TYPE = "image/webp"
#: Pictures opened or fetched at a time, so that Label Studio's calls always find a thread free.
AT_A_TIME = 4
WAIT_S = 20.0


class Thumbnails:
    """Opens a few pictures at a time."""

    def __init__(self) -> None:
        self._places = threading.BoundedSemaphore(AT_A_TIME)

    def of(self, fetch: Callable[[], Path]) -> bytes:
        """The picture that `fetch` finds, at most LARGEST pixels wide and high, as WebP.

        Raises:
            UnavailableError: too many others wait.
            ImageError: it cannot be fetched, or it is no picture.
        """
        if not self._places.acquire(timeout=WAIT_S):
            raise UnavailableError("Too many pictures are being opened.", todo="Load the page again.")
        try:
            picture = open_picture(fetch())
        finally:
            self._places.release()
        picture.thumbnail((LARGEST, LARGEST))
        written = io.BytesIO()
        picture.save(written, "WEBP", quality=85)
        return written.getvalue()
