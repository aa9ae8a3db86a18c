"""The points: named once in the product, inert without the environment, deadly with it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from illume_plugin import fault_points
from illume_plugin.errors import SettingsError
from illume_plugin.fault_points import POINTS, point

ROOT = Path(fault_points.__file__).resolve().parents[1]
#: Two ways lead to the commit of a reconciliation.
TWICE = {"reconcile.before_commit", "reconcile.after_commit"}


def placed() -> Counter[str]:
    """Points as the sources name them."""
    sources = [path for folder in ("backend", "illume_plugin") for path in (ROOT / folder).rglob("*.py")]
    return Counter(name for path in sources for name in re.findall(r'\bpoint\("([^"]+)"\)', path.read_text()))


def ended(code: str, *, fault: str, **more: str) -> int:
    environment = {**os.environ, fault_points.VARIABLE: fault, **more}
    return subprocess.run(
        [sys.executable, "-c", f"from illume_plugin.fault_points import point\n{code}"],
        env=environment, cwd=ROOT, capture_output=True, check=False, timeout=60,
    ).returncode  # fmt: skip


def test_every_point_has_one_place() -> None:
    assert placed() == Counter({name: 2 if name in TWICE else 1 for name in POINTS})


def test_without_the_environment_nothing_happens() -> None:
    for name in POINTS:
        point(name)


@pytest.mark.parametrize(
    ("code", "survived"),
    [
        ('point("push.sent")', False),
        ('point("push.before")', True),
        ('point("push.sent"); point("push.sent")', False),
    ],
)
def test_a_process_dies_at_its_point_and_at_no_other(code: str, survived: bool) -> None:
    assert ended(code, fault="push.sent:kill") == (0 if survived else -signal.SIGKILL)


def test_it_dies_at_the_visit_that_is_named() -> None:
    code = "import sys\nfor n in range(5):\n    print(n, flush=True)\n    point('push.sent')"
    done = subprocess.run(
        [sys.executable, "-c", f"from illume_plugin.fault_points import point\n{code}"],
        env={**os.environ, fault_points.VARIABLE: "push.sent:kill@3"},
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout.split()) == (-signal.SIGKILL, ["0", "1", "2"])


def test_of_several_processes_one_dies(tmp_path: Path) -> None:
    once = {fault_points.ONCE_VARIABLE: str(tmp_path / "mark")}
    codes = [ended('point("push.sent")', fault="push.sent:kill", **once) for _ in range(3)]
    assert codes == [-signal.SIGKILL, 0, 0]


@pytest.mark.parametrize(
    "text", ["", "push.sent", "push.sent:exit", "push.sent:kill@0", "nowhere:kill", "; :kill"]
)
def test_what_names_no_point_is_an_error_and_kills_nobody(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(fault_points.VARIABLE, text)
    with pytest.raises(SettingsError, match="Remove it from the environment"):
        point("push.sent")
