"""A task's picture as a local file: fetched safely, verified, kept."""

from .addresses import ANY_PUBLIC_HOST
from .store import ImageStore

__all__ = ["ANY_PUBLIC_HOST", "ImageStore"]
