"""Whether we run inside a container, and which addresses mean another machine there."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

#: Files that Docker and Podman put into every container.
_MARKS = (".dockerenv", "run/.containerenv")
#: Variables that Kubernetes, and Podman or systemd, set in one.
_VARIABLES = ("KUBERNETES_SERVICE_HOST", "container")
#: What the first process's control group is called in one (version 1; version 2 does not tell).
_GROUPS = ("docker", "kubepods", "containerd", "libpod")
_OURSELVES = ("localhost", "127.", "::1", "0.0.0.0")  # noqa: S104 - looked for, not listened on


def in_container(root: Path = Path("/"), environment: Mapping[str, str] | None = None) -> bool:
    """Whether this process seems to run in a container.

    Args:
        root: of the file system.
        environment: of the process.
    """
    known = os.environ if environment is None else environment
    if any((root / mark).exists() for mark in _MARKS) or any(name in known for name in _VARIABLES):
        return True
    try:
        groups = (root / "proc/1/cgroup").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False  # no Linux, or not ours to read
    return any(word in groups for word in _GROUPS)


def is_this_machine(url: str) -> bool:
    """Whether an address leads back to whoever uses it: localhost, in every spelling."""
    host = urlsplit(url).hostname or ""
    return host.startswith(_OURSELVES) or host.endswith(".localhost")
