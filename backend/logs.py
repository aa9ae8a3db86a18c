"""What libraries may log beside us: no headers and no addresses of requests, which hold tokens."""

from __future__ import annotations

import logging

#: Libraries that tell of every request, with its whole address or its headers; and some that tell much.
TALKATIVE = (
    *("httpx", "httpcore", "urllib3", "botocore", "aiobotocore", "s3fs", "fsspec", "psycopg"),
    *("alembic", "PIL", "filelock"),
)


def quiet_libraries() -> None:
    """Let them tell warnings alone, whatever level the root logger has; for every process of ours."""
    for name in TALKATIVE:
        logger = logging.getLogger(name)
        logger.setLevel(max(logger.level, logging.WARNING))
