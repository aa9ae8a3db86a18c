"""How sampling is stopped between two tokens. No torch here."""

from __future__ import annotations

from illume_plugin.errors import IllumeError


class SamplingStopped(IllumeError):  # noqa: N818 - a request, not a fault
    """Sampling was stopped between two tokens because nobody waits for it any more."""


def never() -> bool:
    """Do not stop."""
    return False
