"""Stores of versions for tests: a folder, fsspec's memory and files, and S3 (moto on loopback)."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
import pytest

from illume_plugin.registry import ADAPTER_FILES, META_FILE, Registry, open_registry
from illume_plugin.types import BASE_VERSION

#: What a publication says beside the files.
FIELDS: dict[str, Any] = {
    "parent": BASE_VERSION,
    "base_model": "embedded",
    "base_model_hash": "abc",
    "training_set": "def",
    "config": {"rank": 16},
    "seed": 3,
    "metrics": {"answer_accuracy": 0.9},
    "versions": {"torch": "2"},
    "created_at": 12.5,
}
KINDS = ("folder", "memory", "file", "s3")
BUCKET = "adapters"


class SharedStore:
    """One store and the machines that use it."""

    def __init__(self, kind: str, address: str, folder: Path) -> None:
        self.kind = kind
        self.address = address
        self._folder = folder
        local = {"auto_mkdir": True} if kind in ("folder", "file") else {}
        self._fs, self._root = fsspec.core.url_to_fs(address, **local)

    def machine(self, name: str, *, cache_bytes: int = 10**9) -> Registry:
        """The registry as the machine of that name sees it."""
        return open_registry(self.address, self.data_dir(name), cache_bytes=cache_bytes)

    def data_dir(self, name: str) -> Path:
        return self._folder / f"machine-{name}"

    def files(self) -> set[str]:
        """Names of all files in the store, below its root."""
        self._fs.invalidate_cache()
        return {found.removeprefix(self._root).strip("/") for found in self._fs.find(self._root)}

    def read(self, name: str) -> bytes:
        return bytes(self._fs.cat_file(f"{self._root}/{name}"))

    def write(self, name: str, data: bytes) -> None:
        self._fs.pipe_file(f"{self._root}/{name}", data)

    def delete(self, name: str) -> None:
        self._fs.rm_file(f"{self._root}/{name}")


@contextmanager
def shared_store(kind: str, folder: Path) -> Iterator[SharedStore]:
    """A store of its own for one test, empty again afterwards."""
    if kind == "folder":
        yield SharedStore(kind, str(folder / "shared"), folder)
    elif kind == "file":
        yield SharedStore(kind, f"file://{folder / 'shared'}", folder)
    elif kind == "memory":
        store = SharedStore(kind, f"memory://{uuid.uuid4().hex}", folder)
        yield store
        for name in store.files():
            store.delete(name)
    else:
        yield SharedStore(kind, f"s3://{BUCKET}/{uuid.uuid4().hex}", folder)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """An S3 that checks nobody, on loopback; gives its address."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    keys = {"aws_access_key_id": "none", "aws_secret_access_key": "none", "region_name": "us-east-1"}
    boto3.client("s3", endpoint_url=address, **keys).create_bucket(Bucket=BUCKET)
    yield address
    server.stop()


@pytest.fixture(params=KINDS)
def store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[SharedStore]:
    """Each kind of store in turn."""
    if request.param == "s3":
        # as a user gives them: by the driver's own environment
        monkeypatch.setenv("AWS_ENDPOINT_URL", request.getfixturevalue("s3_server"))
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "none")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "none")
    with shared_store(request.param, tmp_path) as found:
        yield found


def staged(folder: Path, weights: bytes = b"weights") -> Path:
    """An adapter as training leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_model.safetensors").write_bytes(weights)
    (folder / "adapter_config.json").write_text("{}")
    return folder


def names_of(project_id: int, version: str) -> set[str]:
    """The names in the store of a whole version."""
    return {f"project-{project_id}/{version}/{name}" for name in (*ADAPTER_FILES, META_FILE)}
