"""Opens what is to be examined; what keeps it from starting is the first thing that is found."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from backend.doctor.checks import Check, found, of_error
from backend.doctor.connection import refused
from backend.doctor.findings import Finding
from backend.service import Service
from backend.settings import Settings, load_settings
from illume_plugin.errors import IllumeError, SettingsError, UnavailableError
from illume_plugin.labelstudio import TokenRefusedError
from illume_plugin.store.database import NewerSchemaError


@contextmanager
def opened(**overrides: Any) -> Iterator[Service | Check]:
    """The service as the settings make it, or what keeps every command from making it.

    Args:
        overrides: settings that win over environment and file.
    """
    settings = _settings(overrides)
    if isinstance(settings, Check):
        yield settings
        return
    service = _folder_problem(settings) or _service(settings)
    try:
        yield service
    finally:
        if isinstance(service, Service):
            service.close()


def _settings(overrides: dict[str, Any]) -> Settings | Check:
    try:
        return load_settings(**overrides)
    except SettingsError as error:
        return of_error("settings", Finding.SETTINGS, error)


def _folder_problem(settings: Settings) -> Check | None:
    """Why nothing can be written into the data folder."""
    probe = settings.data_dir / f".probe-{uuid.uuid4().hex}"
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        detail = f"nothing can be written in {settings.data_dir.absolute()}: {error.strerror or error}"
        return found("data folder", Finding.DATA_FOLDER, detail)
    return None


def _service(settings: Settings) -> Service | Check:
    try:
        return Service(settings)
    except NewerSchemaError as error:
        return found("database", Finding.SCHEMA_NEWER, error.what)
    except TokenRefusedError as error:
        return refused(error)
    except UnavailableError as error:
        return of_error("database", Finding.DATABASE_AWAY, error)
    except IllumeError as error:
        return of_error("settings", Finding.CANNOT_START, error)
