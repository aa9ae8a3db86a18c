"""Where adapter versions are kept, and whether the one that serves is whole and of our base model."""

from __future__ import annotations

from collections.abc import Iterator

from backend.doctor.checks import Check, found, good, of_error
from backend.doctor.findings import Finding
from backend.service import Service
from illume_plugin.errors import IllumeError, ModelError, NotFoundError
from illume_plugin.types import BASE_VERSION, AdapterMeta, Project


def store_works(service: Service) -> Iterator[Check]:
    """Whether versions can be written, read and removed where they are kept."""
    store = service.registry.store
    try:
        caution = store.try_out()
    except IllumeError as error:
        yield of_error("adapters", Finding.ADAPTERS_UNWRITABLE, error)
        return
    here = str(store.root.absolute())
    detail = f"kept in {store.address}" + (f", copies in {here}" if here != store.address else "")
    if caution:
        yield found("adapters", Finding.ADAPTERS_CAUTION, detail, todo=caution)
    else:
        yield good("adapters", detail)


def serving_adapter(service: Service, project: Project) -> Iterator[Check]:
    """Whether the version that serves a project is what was published, for the base model that is set."""
    version = project.active_version
    if version == BASE_VERSION:
        return
    name, number = f"project {project.project_id}: adapter", project.project_id
    try:
        meta = service.registry.verify(number, version)
    except (ModelError, NotFoundError) as error:
        yield of_error(name, Finding.ADAPTER_DAMAGED, error, project=number)
        return
    except IllumeError as error:
        yield of_error(name, Finding.ADAPTERS_UNWRITABLE, error)
        return
    if meta.base_model == service.settings.base_model:
        yield good(name, f"{version} is as it was published")
    else:
        yield _foreign(name, service, meta)


def _foreign(name: str, service: Service, meta: AdapterMeta) -> Check:
    detail = f"{meta.version} was trained on {meta.base_model!r}, and {service.settings.base_model!r} is set"
    todo = (
        f"set ILLUME_BASE_MODEL={meta.base_model} again, or begin anew: "
        f"illume promote {BASE_VERSION} --project {meta.project_id} --reason 'another base model'"
    )
    return found(name, Finding.ADAPTER_FOREIGN, detail, todo=todo)
