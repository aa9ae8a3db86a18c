"""The base model: whether its folder can be read and is whole, and how it runs on this machine."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from backend.doctor.checks import Check, found, good, of_error
from backend.doctor.findings import Finding
from backend.sampling import base_model_source
from backend.service import Service
from illume_plugin.errors import IllumeError

#: How a file begins that Git LFS has put in the place of another one.
_POINTER = b"version https://git-lfs.github.com/spec/"
_CONFIG, _INDEX = "config.json", "model.safetensors.index.json"
#: What downloads that are under way or were broken off leave.
_PARTIAL = ("*.incomplete", "*.part", "*.crdownload", "*.aria2")
#: The header of a safetensors file is JSON of this size at most, bytes (their own limit).
_LONGEST_HEADER = 100_000_000

Problem = tuple[Finding, str]


def folder_is_whole(service: Service) -> Iterator[Check]:
    """Whether the base model's folder is there, readable and complete; seconds at most, nothing is loaded.

    A model named by its hub id is left to the loader, which fetches what is wanting.
    """
    source = base_model_source(service.settings)
    if service.settings.vllm_url or not _is_folder_name(source):
        return
    problem = problem_of(Path(source))
    if problem is None:
        yield good("base model's folder", f"{source} is complete")
    else:
        finding, detail = problem
        yield found("base model's folder", finding, detail, todo=finding.mend.replace("FOLDER", source))


def runs(service: Service) -> Iterator[Check]:
    """How this machine would sample; the process that serves has a model of its own."""
    try:
        generator = service.engine.generator()
        facts = generator.facts()
    except IllumeError as error:
        yield of_error("model", Finding.MODEL_UNSUITABLE, error)
        return
    detail = (
        f"{service.settings.base_model} on {facts.place}, {generator.rows} rows at a time; decoding: "
        f"{facts.decoding}; scoring: {facts.scoring}; without the picture: {facts.blind}"
    )
    if facts.concern:
        yield found("model", Finding.MODEL_SLOW, detail, todo=f"known and named: {facts.concern}")
    else:
        yield good("model", detail)


def problem_of(folder: Path) -> Problem | None:
    """What is wrong with a base model's folder; None where it is complete as far as its files tell."""
    try:
        if not folder.is_dir():
            return Finding.MODEL_MISSING, f"the folder {folder} does not exist"
        return _config_problem(folder) or _weights_problem(folder)
    except OSError as error:
        detail = f"{error.filename or folder} cannot be read: {error.strerror or error}"
        return Finding.MODEL_UNREADABLE, detail


def _is_folder_name(source: str) -> bool:
    """As the loader judges: what exists or looks like a path is one, all else is a hub id."""
    return source.startswith((".", "/")) or Path(source).exists()


def _config_problem(folder: Path) -> Problem | None:
    config = _read_json(folder / _CONFIG)
    if isinstance(config, str):
        return _of_file(folder, _CONFIG, config)
    if config.get("is_encoder_decoder"):
        return Finding.MODEL_UNSUITABLE, f"{folder} holds a model with an encoder and a decoder"
    return None


def _weights_problem(folder: Path) -> Problem | None:
    names = _weights(folder)
    if isinstance(names, str):
        return _of_file(folder, _INDEX, names)
    if not names:
        return _without_weights(folder)
    for name in names:
        if problem := _header_problem(folder / name):
            return _of_file(folder, name, problem)
    return None


def _weights(folder: Path) -> list[str] | str:
    """Names of the weight files that there should be; a text says why they cannot be known."""
    if not _there(folder / _INDEX):
        return sorted(path.name for path in folder.iterdir() if path.name.endswith(".safetensors"))
    index = _read_json(folder / _INDEX)
    if isinstance(index, str):
        return index
    weights = index.get("weight_map")
    return sorted({str(name) for name in weights.values()}) if isinstance(weights, dict) else "no weight_map"


def _without_weights(folder: Path) -> Problem:
    partial = sorted(path.name for pattern in _PARTIAL for path in folder.glob(pattern))
    if partial:
        return Finding.MODEL_INCOMPLETE, f"{folder} holds {partial[0]} and no *.safetensors"
    pickles = sorted(path.name for path in folder.glob("*.bin"))
    if pickles:
        return Finding.MODEL_UNSUITABLE, f"{folder} holds {pickles[0]}, a pickle, and no *.safetensors"
    return Finding.MODEL_INCOMPLETE, f"{folder} holds no *.safetensors"


def _of_file(folder: Path, name: str, problem: str) -> Problem:
    finding = Finding.MODEL_POINTERS if problem == _POINTER.decode() else Finding.MODEL_INCOMPLETE
    told = "is a pointer of Git LFS" if finding is Finding.MODEL_POINTERS else problem
    return finding, f"{folder / name} {told}"


def _read_json(path: Path) -> dict[str, Any] | str:
    """The object in a file, or what is wrong with the file."""
    if not _there(path):
        return "is not there"
    text = path.read_bytes()
    if text.startswith(_POINTER):
        return _POINTER.decode()
    try:
        told = json.loads(text)
    except ValueError as error:
        return f"is not whole: {error}"
    return told if isinstance(told, dict) else "holds no object"


def _header_problem(path: Path) -> str:
    """What is wrong with a safetensors file by its header and size; "" where nothing is."""
    if not _there(path):
        return "is not there"
    size = path.stat().st_size
    with path.open("rb") as file:
        opening = file.read(len(_POINTER))
        if opening == _POINTER:
            return _POINTER.decode()
        if len(opening) < 8:
            return f"has {size} bytes"
        (length,) = struct.unpack("<Q", opening[:8])
        if length > min(size, _LONGEST_HEADER):
            return f"has {size} bytes and is cut off, or is no safetensors file"
        file.seek(8)
        header = file.read(length)
    try:
        tensors = json.loads(header)
        ends = [each["data_offsets"][1] for name, each in tensors.items() if name != "__metadata__"]
        wanted = 8 + length + max(ends, default=0)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        return f"has a header that cannot be understood ({type(error).__name__})"
    return "" if size == wanted else f"has {size} of {wanted} bytes"


def _there(path: Path) -> bool:
    """Whether a file is there. A link into nothing is not; one that may not be followed is an OSError."""
    try:
        path.stat()
    except FileNotFoundError:
        return False
    return True
