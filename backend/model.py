"""IllumeBackend: the label-studio-ml face of the engine.

A real subclass of `LabelStudioMLBase` under label-studio-ml 1.0.9 and 2.x, and under their `init_app`;
where the package is absent a stand-in takes the base's place. Our own Flask app serves through this class
too, so what runs in production is what the official scaffold would run.
"""

from __future__ import annotations

import inspect
import logging
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

from backend.service import Service
from backend.settings import load_settings
from illume_plugin.errors import BadRequestError, IllumeError
from illume_plugin.generation.stopping import never
from illume_plugin.types import BASE_VERSION, MAX_ID

log = logging.getLogger(__name__)


@contextmanager
def _torch_out_of_sight() -> Iterator[None]:
    """Let label-studio-ml import as if there were no torch.

    It would otherwise load torch (seconds, in a process that may never need it) and set the start method of
    the whole process's multiprocessing to "spawn". We start no jobs through it.
    """
    if "torch" in sys.modules:
        yield
        return
    sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules["torch"]


try:
    with _torch_out_of_sight():
        from label_studio_ml.model import LabelStudioMLBase
except ImportError as error:
    log.info("label-studio-ml is not used: %s", error)

    class LabelStudioMLBase:  # type: ignore[no-redef]
        """Stand-in with the constructor of label-studio-ml 1.0.9."""

        def __init__(self, label_config: str | None = None, train_output: Any = None, **_: Any) -> None:
            self.label_config = label_config
            self.train_output = train_output or {}


#: 2.x names the project in the constructor, 1.0.9 does not.
TAKES_PROJECT = "project_id" in inspect.signature(LabelStudioMLBase.__init__).parameters

_service_lock = threading.Lock()


class IllumeBackend(LabelStudioMLBase):  # type: ignore[misc]
    """Candidate rationales as predictions; annotations and training requests as events."""

    #: The process's engine; made from the settings on first use unless an app has set it.
    service: ClassVar[Service | None] = None

    @classmethod
    def engine(cls) -> Service:
        """The process-wide service."""
        with _service_lock:
            if IllumeBackend.service is None:
                IllumeBackend.service = Service(load_settings())
            return IllumeBackend.service

    @classmethod
    def for_project(cls, project_id: int, label_config: str | None) -> IllumeBackend:
        """An instance in whichever way the installed base class wants to be made.

        Raises:
            LabelConfigError: the configuration lacks tags that we need.
        """
        if label_config:
            # before the base class parses it: ours refuses entities, and says what is missing
            cls.engine().setup_check(label_config)
        backend = (
            cls(project_id=str(project_id), label_config=label_config)
            if TAKES_PROJECT
            else cls(label_config=label_config)
        )
        backend._illume_project = project_id
        return backend

    _illume_project: int | None = None

    def setup(self) -> None:
        """Called by 2.x in its constructor, for events too: tell it which version serves."""
        project_id = project_number(getattr(self, "project_id", None))
        if project_id is None:
            return
        try:
            version = self.engine().setup(project_id, self.label_config)
        except IllumeError as error:
            # An event of a project that we cannot serve must still be kept; /predict repeats the reason.
            log.warning("project %d: %s", project_id, error)
            version = BASE_VERSION
        self.set("model_version", version)

    def predict(
        self,
        tasks: Sequence[Mapping[str, Any]],
        context: Mapping[str, Any] | None = None,
        *,
        gone: Callable[[], bool] = never,
        **_: Any,
    ) -> list[dict[str, Any]]:
        """One prediction per task, in order; an item without a `result` says why there is none.

        Args:
            tasks: Label Studio's tasks: {"id", "data", "project", ...}.
            context: what the annotator has on screen, for interactive calls.
            gone: whether nobody waits for the answer any more; asked now and then.
            **_: login, password and whatever else the caller's version sends.
        """
        project_id = self._project(tasks)
        return self.engine().predictor.predict(project_id, self.label_config, tasks, context, gone=gone)

    def fit(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Take one event: 2.x calls fit(event, data), 1.0.9 fit((), event=, data=, job_id=)."""
        event = kwargs.get("event") or next((arg for arg in args if isinstance(arg, str)), None)
        data = kwargs.get("data") or next((arg for arg in args if isinstance(arg, Mapping)), {})
        return self.engine().receive({**data, "action": event})

    def _project(self, tasks: Sequence[Mapping[str, Any]]) -> int:
        named = [self._illume_project, getattr(self, "project_id", None)]
        named += [task.get("project") for task in tasks if isinstance(task, Mapping)]
        for value in named:
            number = project_number(value)
            if number is not None:
                return number
        raise BadRequestError(
            "The call names no project.", why="Label Studio sends it with the call and in every task."
        )


def project_number(value: Any) -> int | None:
    """Project id from 2, "2" or Label Studio's "2.1795304853" (id and creation time); None for all else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value if 0 < value <= MAX_ID else None
    head = value.split(".")[0] if isinstance(value, str) else ""
    return int(head) if head.isascii() and head.isdigit() and 0 < len(head) < 12 and int(head) else None
