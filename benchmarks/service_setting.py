"""How long the benchmarks of the service measure, and where. No torch here."""

from __future__ import annotations

import os
import platform
import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

_PACKAGES = ("flask", "waitress", "sqlalchemy", "label-studio-ml", "label-studio-sdk")


@dataclass(frozen=True)
class ServiceSetting:
    """How much of the work is done.

    Attributes:
        seconds: of one window under load.
        quick: a smaller piece of the same work, for a look.
    """

    repeats: int
    seconds: float
    quick: bool = False


def place() -> dict[str, Any]:
    """What was measured on, and when."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "device": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "versions": {"sqlite": sqlite3.sqlite_version, **_versions()},
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
