"""A Label Studio of our own, on loopback, with the settings that a local backend needs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx

from backend.demo.processes import Child, ProcessError, require_free_port

#: The first start makes the database: about a minute on two cores, several on a loaded machine.
READY_WITHIN_S = 600.0
_POLL_S = 0.5
_SAY_EVERY_S = 5.0


class LabelStudioServer:
    """Label Studio on 127.0.0.1 with its data, SQLite database and log in one folder.

    Args:
        executable: the `label-studio` program of its own virtual environment.
        folder: where it keeps everything; may hold the data of an earlier start.
        document_root: folder below which local pictures may be served.
        username: e-mail address of the first user, made at the first start.
        password: that user's password; later starts do not change it.
        port_option: command line option that chooses the port, for error messages.
        settings: environment variables of Label Studio's that are to be other than usual.
    """

    def __init__(
        self,
        executable: Path,
        folder: Path,
        port: int,
        document_root: Path,
        username: str,
        password: str,
        *,
        port_option: str = "--label-studio-port",
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.executable = executable
        self.folder = folder
        self.port = port
        self.document_root = document_root
        self.port_option = port_option
        self.url = f"http://127.0.0.1:{port}"
        self.child = Child(
            "Label Studio",
            [
                str(executable), "start", "--no-browser",
                "--internal-host", "127.0.0.1", "--port", str(port),
            ],
            environment={
                **environment(os.environ, folder, document_root, username, password),
                **(settings or {}),
            },
            log=folder / "label-studio.log",
        )  # fmt: skip

    def start(self) -> None:
        """Start the process.

        Raises:
            ProcessError: the program is missing, or the port is taken.
        """
        if not self.executable.is_file():
            raise ProcessError(
                f"Label Studio is not installed at {self.executable}.", todo="Run `make install`."
            )
        require_free_port(self.port, self.port_option)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.document_root.mkdir(parents=True, exist_ok=True)
        self.child.start()

    def wait_until_ready(self, progress: Callable[[str], None], *, within_s: float = READY_WITHIN_S) -> None:
        """Wait until it answers; `progress` gets a sentence every five seconds.

        Raises:
            ProcessError: it ended, or did not answer in time; with the end of its log.
        """
        started = time.monotonic()
        said = 0.0
        while not self._answers():
            self.child.check()
            waited = time.monotonic() - started
            if waited > within_s:
                raise ProcessError(
                    f"Label Studio did not answer at {self.url} within {within_s:g} s.",
                    why=f"The end of its log:\n{self.child.tail()}\n",
                    todo=f"All of it is in {self.child.log}.",
                )
            if waited - said >= _SAY_EVERY_S:
                said = waited
                progress(f"Label Studio is starting ({waited:.0f} s; the first start takes about a minute)")
            time.sleep(_POLL_S)

    def check(self) -> None:
        """Make sure that the process runs; ProcessError otherwise."""
        self.child.check()

    def stop(self) -> None:
        """Stop the process; harmless when it does not run."""
        self.child.stop()

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health", timeout=5.0, trust_env=False).is_success
        except httpx.TransportError:
            return False


def environment(
    inherited: Mapping[str, str], folder: Path, document_root: Path, username: str, password: str
) -> dict[str, str]:
    """The environment of Label Studio: ours, less whatever else would configure it.

    Each setting is given with its LABEL_STUDIO_ prefix, which Label Studio looks at first.
    """
    foreign = ("LABEL_STUDIO_", "HEARTEX_", "fflag_", "ff_", "DJANGO_")
    kept = {name: value for name, value in inherited.items() if not name.startswith(foreign)}
    return kept | {
        "LABEL_STUDIO_BASE_DATA_DIR": str(folder.resolve()),
        "LABEL_STUDIO_DJANGO_DB": "sqlite",
        "LABEL_STUDIO_USERNAME": username,
        "LABEL_STUDIO_PASSWORD": password,
        "LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK": "true",
        # Since 1.23.1 backends and webhooks on loopback are refused unless both are off.
        "LABEL_STUDIO_ML_BLOCK_LOCAL_IP": "false",
        "LABEL_STUDIO_SSRF_PROTECTION_ENABLED": "false",
        "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED": "true",
        "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(document_root.resolve()),
        # A bulk of predictions no longer recounts every task of the project (minutes on large ones).
        "fflag_fix_back_4620_memory_efficient_predictions_import_08012025_short": "true",
        # Nothing leaves the machine.
        "LABEL_STUDIO_COLLECT_ANALYTICS": "false",
        "LABEL_STUDIO_LATEST_VERSION_CHECK": "false",
        "LABEL_STUDIO_SENTRY_DSN": "",
        "LABEL_STUDIO_FRONTEND_SENTRY_DSN": "",
    }
