"""A task's picture as a local file: fetched safely, verified, kept."""

from illume_plugin.images.addresses import ANY_PUBLIC_HOST
from illume_plugin.images.cache import pin
from illume_plugin.images.opening import is_seen_alike, open_picture
from illume_plugin.images.store import ImageStore

__all__ = ["ANY_PUBLIC_HOST", "ImageStore", "is_seen_alike", "open_picture", "pin"]
