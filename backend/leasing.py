"""A named lease for as long as a block runs, kept alive meanwhile."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from backend.pulse import Pulse
from backend.service import Service
from illume_plugin import __version__
from illume_plugin.store import leases

#: After so long a lease whose process has died is anybody's, seconds.
LEASE_S = 60.0


def new_owner() -> str:
    """A name that no other owner of leases has, here or on another machine; it tells our version."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:6]}:{__version__}"


def version_of(owner: str) -> str:
    """The version of the program that an owner of leases runs; "" where its name does not tell."""
    parts = owner.split(":")
    return parts[3] if len(parts) == 4 else ""


@contextmanager
def leased(service: Service, name: str) -> Iterator[bool]:
    """Take the lease until the block ends; false where somebody else has it: the block must do nothing."""
    owner = new_owner()

    def take() -> bool:
        with service.store.write() as conn:
            return leases.take(conn, name, owner=owner, now=service.clock(), seconds=LEASE_S)

    if not take():
        yield False
        return
    try:
        with Pulse(take, every_s=LEASE_S / 4, name=name):
            yield True
    finally:
        with service.store.write() as conn:  # after the last renewal, which would take it again
            leases.give_back(conn, name, owner=owner)
