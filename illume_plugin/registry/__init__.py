"""Adapter versions: numbered, hashed, never changed; in a folder or in any store of fsspec. No torch."""

from illume_plugin.registry.files import ADAPTER_FILES, META_FILE, checked_version, is_version
from illume_plugin.registry.folder_store import FolderStore
from illume_plugin.registry.opening import open_registry
from illume_plugin.registry.versions import Registry, VersionStore

__all__ = [
    "ADAPTER_FILES",
    "META_FILE",
    "FolderStore",
    "Registry",
    "VersionStore",
    "checked_version",
    "is_version",
    "open_registry",
]
