"""A backup whose process is killed right before or right after the file gets its name."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_backup import quiet, whole  # noqa: F401 - a fixture

from backend.backup import restoring, writing
from backend.settings import Settings
from illume_plugin import fault_points

ROOT = Path(fault_points.__file__).resolve().parents[1]


def killed(settings: Settings, target: Path, point: str) -> int:
    """Exit status of `illume backup`, armed."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "ILLUME_DATA_DIR": str(settings.data_dir),
        fault_points.VARIABLE: f"{point}:kill",
    }
    command = [sys.executable, "-m", "backend.cli", "backup", str(target)]
    return subprocess.run(command, env=environment, capture_output=True, check=False, timeout=120).returncode


@pytest.mark.parametrize(("point", "there"), [("backup.before_name", False), ("backup.after_name", True)])
def test_it_is_there_in_full_or_not_at_all(
    whole: Settings,  # noqa: F811 - a fixture
    tmp_path: Path,
    point: str,
    there: bool,
) -> None:
    target = tmp_path / "backups" / "monday.tar"
    target.parent.mkdir()
    assert killed(whole, target, point) == -signal.SIGKILL
    assert target.exists() == there
    left = [path for path in target.parent.iterdir() if path != target]
    assert left, "nobody could tidy up"
    hour_ago = time.time() - 2 * writing._ABANDONED_S
    for path in left:
        os.utime(path, (hour_ago, hour_ago))
    other = target.parent / f".tuesday.tar.{'0' * 32}"
    other.touch()
    os.utime(other, (hour_ago, hour_ago))
    writing.back_up(whole, target, quiet, replace=there)
    assert restoring.check(target, quiet).versions
    assert set(target.parent.iterdir()) == {target, other}
