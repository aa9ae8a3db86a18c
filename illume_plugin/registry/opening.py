"""The registry that a setting names."""

from __future__ import annotations

import hashlib
from pathlib import Path

from illume_plugin.registry.folder_store import FolderStore
from illume_plugin.registry.versions import Registry


def open_registry(address: str, data_dir: Path, *, cache_bytes: int) -> Registry:
    """The registry at an address.

    Args:
        address: empty for a folder in `data_dir`, the path of another folder, or what fsspec opens:
            `s3://bucket/prefix`.
        data_dir: where this machine keeps its files; versions of a remote store are copied into it.
        cache_bytes: the copies that nobody holds go when all together are larger.

    Raises:
        SettingsError: fsspec cannot open the address, or it holds a password.
    """
    if "://" not in address:
        return Registry(FolderStore(Path(address) if address else data_dir / "adapters"))
    from illume_plugin.registry.cache import AdapterCache
    from illume_plugin.registry.object_store import ObjectStore
    from illume_plugin.registry.objects import Objects

    # Another store may have other versions of the same names.
    own = hashlib.sha256(address.encode()).hexdigest()[:12]
    cache = AdapterCache(data_dir / "adapters-cache" / own, limit=cache_bytes)
    return Registry(ObjectStore(Objects(address), cache))
