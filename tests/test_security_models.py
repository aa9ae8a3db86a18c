"""Code that comes with a base model is run where it is asked for by name, and never otherwise."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
from transformers.dynamic_module_utils import HF_MODULES_CACHE

from illume_plugin.base_model import load_base_model, load_prompts
from illume_plugin.embedded import base_model_path
from illume_plugin.errors import ModelError

pytestmark = pytest.mark.torch

CODE = """
from pathlib import Path
Path({mark!r}).write_text("it ran")
from transformers import LlavaConfig as OwnConfig
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """The embedded model with a configuration class of its own, which leaves a mark where it is imported."""
    folder = tmp_path / "with_code_of_its_own"
    shutil.copytree(base_model_path(), folder)
    config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "somebodys_own", "auto_map": {"AutoConfig": "own.OwnConfig"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text(CODE.format(mark=str(tmp_path / "mark")))
    yield folder
    shutil.rmtree(Path(HF_MODULES_CACHE) / "transformers_modules" / folder.name, ignore_errors=True)


def test_code_of_a_model_is_not_run_unasked(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        load_base_model(folder)
    with suppress(ModelError):  # what it reads of a processor may be there all the same
        load_prompts(folder)
    assert not (tmp_path / "mark").exists()


def test_asked_for_by_name_it_is_run(folder: Path, tmp_path: Path) -> None:
    """Which shows that the test above would have noticed."""
    load_base_model(folder, device="cpu", trust_remote_code=True)
    assert (tmp_path / "mark").read_text() == "it ran"
