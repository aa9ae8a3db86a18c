"""Takes out of Label Studio's payloads what must never be logged or stored."""

from __future__ import annotations

import math
from collections.abc import Mapping

from illume_plugin.errors import BadRequestError
from illume_plugin.identity import storable
from illume_plugin.types import Json

#: Dropped wherever they stand. `token` is the project's invite link, sent with every webhook.
_SECRET_KEYS = frozenset({"token", "access_token", "task_data_login", "task_data_password"})

#: Dropped inside `params` only, where they are the login for the task's pictures.
_SECRET_PARAMS = frozenset({"login", "password"})

#: Label Studio's payloads nest about ten levels; deeper ones would exhaust the stack of whoever reads them.
MAX_DEPTH = 100


def strip_secrets(body: Mapping[str, Json]) -> dict[str, Json]:
    """Copy a payload without its secrets, made of plain, storable JSON.

    The copy shares nothing with `body`. What databases refuse is replaced on the way: NaN and infinite
    numbers become null (as Label Studio itself stores them), NUL and lone surrogates become marks.

    Raises:
        BadRequestError: `body` is not an object, holds something that is not JSON, or nests too deep.
    """
    if not isinstance(body, Mapping):
        raise BadRequestError(
            f"The body is not a JSON object ({body!r:.60}).", todo="Send what Label Studio's webhooks send."
        )
    return _object(body, parent="", depth=0)


def _object(value: Mapping[str, Json], parent: str, depth: int) -> dict[str, Json]:
    secret = _SECRET_KEYS | _SECRET_PARAMS if parent == "params" else _SECRET_KEYS
    return {
        storable(str(key)): _copy(item, str(key), depth + 1)
        for key, item in value.items()
        if key not in secret
    }


def _copy(value: Json, parent: str, depth: int) -> Json:
    if depth > MAX_DEPTH:
        raise BadRequestError(f"The body nests more than {MAX_DEPTH} levels deep.")
    # Every event passes here: what is there most comes first, and abstract classes, slow to ask, last.
    if isinstance(value, str):
        return storable(value)
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list | tuple):
        return [_copy(item, parent, depth + 1) for item in value]
    if isinstance(value, dict) or isinstance(value, Mapping):  # noqa: SIM101 - in this order
        return _object(value, parent, depth)
    raise BadRequestError(f"The body holds something that is not JSON ({type(value).__name__}).")
