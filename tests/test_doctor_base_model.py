"""What the doctor finds in a base model's folder, and of the model on this machine."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from examined import the, wrong
from test_doctor_machine import unprivileged

from backend.doctor import Finding, base_model
from backend.service import Service
from backend.settings import Settings

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 4988025760\n"
INDEX = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}


def safetensors(path: Path, size: int = 64) -> None:
    """The smallest whole file: one tensor of so many bytes."""
    header = json.dumps({"a": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(size))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's folder in two parts, as far as the doctor looks."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "llava"}))
    (folder / "model.safetensors.index.json").write_text(json.dumps(INDEX))
    for name in INDEX["weight_map"].values():
        safetensors(folder / name)
    return folder


SECOND = "model-00002-of-00002.safetensors"


def cut(folder: Path) -> None:
    with (folder / SECOND).open("r+b") as file:
        file.truncate(80)


def cut_header(folder: Path) -> None:
    (folder / SECOND).write_bytes((folder / SECOND).read_bytes()[:20])


def half_downloaded(folder: Path) -> None:
    for path in folder.glob("model*"):
        path.unlink()
    (folder / f"{SECOND}.incomplete").write_bytes(b"x")


def pickles(folder: Path) -> None:
    for path in folder.glob("model*"):
        path.unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04")


def two_models(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"is_encoder_decoder": True}))


def link_into_nothing(folder: Path) -> None:
    """What is left of the hub's cache when its blobs are deleted."""
    (folder / SECOND).unlink()
    (folder / SECOND).symlink_to(folder / "blobs" / "gone")


def link_in_a_circle(folder: Path) -> None:
    (folder / SECOND).unlink()
    (folder / SECOND).symlink_to(folder / SECOND)


def folder_for_a_file(folder: Path) -> None:
    (folder / SECOND).unlink()
    (folder / SECOND).mkdir()


def write(name: str, text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(text)


#: How it is broken, what is found, what is told.
BROKEN: list[tuple[Callable[[Path], object], Finding, str]] = [
    (shutil.rmtree, Finding.MODEL_MISSING, "does not exist"),
    (lambda folder: (folder / "config.json").unlink(), Finding.MODEL_INCOMPLETE, "config.json is not there"),
    (write("config.json", '{"model_ty'), Finding.MODEL_INCOMPLETE, "config.json is not whole"),
    (write("config.json", "[]"), Finding.MODEL_INCOMPLETE, "holds no object"),
    (write("model.safetensors.index.json", "{"), Finding.MODEL_INCOMPLETE, "index.json is not whole"),
    (write("model.safetensors.index.json", "{}"), Finding.MODEL_INCOMPLETE, "no weight_map"),
    (lambda folder: (folder / SECOND).unlink(), Finding.MODEL_INCOMPLETE, f"{SECOND} is not there"),
    (link_into_nothing, Finding.MODEL_INCOMPLETE, f"{SECOND} is not there"),
    (cut, Finding.MODEL_INCOMPLETE, "has 80 of"),
    (cut_header, Finding.MODEL_INCOMPLETE, "is cut off"),
    (write(SECOND, ""), Finding.MODEL_INCOMPLETE, "has 0 bytes"),
    (write(SECOND, "<!doctype html> not found"), Finding.MODEL_INCOMPLETE, "no safetensors"),
    (half_downloaded, Finding.MODEL_INCOMPLETE, ".incomplete"),
    (write(SECOND, POINTER), Finding.MODEL_POINTERS, f"{SECOND} is a pointer"),
    (write("config.json", POINTER), Finding.MODEL_POINTERS, "config.json is a pointer"),
    (pickles, Finding.MODEL_UNSUITABLE, "pytorch_model.bin, a pickle"),
    (two_models, Finding.MODEL_UNSUITABLE, "an encoder and a decoder"),
    (link_in_a_circle, Finding.MODEL_UNREADABLE, "symbolic links"),
    (folder_for_a_file, Finding.MODEL_UNREADABLE, "directory"),
]


def test_a_whole_folder(folder: Path) -> None:
    assert base_model.problem_of(folder) is None
    (folder / "model.safetensors.index.json").unlink()
    assert base_model.problem_of(folder) is None, "without an index every file counts"


@pytest.mark.parametrize(("break_it", "finding", "told"), BROKEN)
def test_a_broken_folder(
    settings: Settings,
    folder: Path,
    break_it: Callable[[Path], object],
    finding: Finding,
    told: str,
) -> None:
    break_it(folder)
    service = Service(settings.model_copy(update={"base_model": str(folder)}))
    check = the(base_model.folder_is_whole(service), finding)
    service.close()
    assert told in check.detail
    assert str(folder) in check.detail
    assert "FOLDER" not in check.todo


@pytest.mark.parametrize("forbidden", [".", "config.json", SECOND])
def test_what_may_not_be_read(folder: Path, tmp_path: Path, forbidden: str) -> None:
    (folder / forbidden).chmod(0)
    open_up(tmp_path)
    with unprivileged():
        problem = base_model.problem_of(folder)
    (folder / forbidden).chmod(0o700)
    assert problem is not None
    finding, detail = problem
    assert finding is Finding.MODEL_UNREADABLE
    assert "Permission denied" in detail


def open_up(path: Path) -> None:
    """Let everybody pass through the folders above a test's own."""
    for each in (path, *path.parents):
        if each.stat().st_uid == os.geteuid() and "pytest" in str(each):
            each.chmod(each.stat().st_mode | 0o011)


def test_the_embedded_model_is_whole(service: Service) -> None:
    assert wrong(base_model.folder_is_whole(service)) == {}


def test_a_hub_id_and_a_server_are_left_to_the_loader(settings: Settings) -> None:
    for change in ({"base_model": "llava-hf/llava-1.5-7b-hf"}, {"vllm_url": "http://127.0.0.1:1"}):
        service = Service(settings.model_copy(update=change))
        assert list(base_model.folder_is_whole(service)) == []
        service.close()


@pytest.mark.torch
def test_a_whole_folder_of_another_kind_of_model(settings: Settings, folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", "architectures": ["BertModel"]}))
    service = Service(settings.model_copy(update={"base_model": str(folder)}))
    assert wrong(base_model.folder_is_whole(service)) == {}, "its files are whole"
    check = the(base_model.runs(service), Finding.MODEL_UNSUITABLE)
    service.close()
    assert "cannot be loaded" in check.detail
    assert "ILLUME_BASE_MODEL" in check.todo
