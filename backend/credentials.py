"""Secrets that callers show: compared in constant time, and wrong ones counted by where they come from.

Two kinds of secret are guarded differently (docs/adr/0018). Label Studio's is long: the right one is always
let in, so that nobody behind the same proxy can keep Label Studio's events out, and wrong ones are answered
429 after a while. The status page's password was chosen by a person: after too many wrong ones the right one
has to wait as well, except from a browser that has shown it before.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import threading
import time
from collections import deque
from collections.abc import Callable

from flask import Request

from illume_plugin.errors import IllumeError

#: Wrong secrets that one address may show within WINDOW_S before it has to wait.
FAILURES = 10
WINDOW_S = 60.0
#: Addresses remembered; above that the ones that failed longest ago are forgotten.
ADDRESSES = 10_000
#: Who owns one IPv6 address owns the others of its network, too.
_IPV6_NETWORK = 64


class TooManyFailuresError(IllumeError):
    """Too many wrong secrets came from one address."""

    status = 429
    title = "too many failures"


class Failures:
    """Counts wrong secrets by address, in this process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._times: dict[str, deque[float]] = {}

    def check(self, address: str) -> None:
        """Raise TooManyFailuresError where the address has to wait."""
        with self._lock:
            times = self._times.get(address)
            while times and times[0] <= self._clock() - WINDOW_S:
                times.popleft()
            if times and len(times) >= FAILURES:
                raise TooManyFailuresError(
                    f"{FAILURES} wrong secrets came from {address} within {WINDOW_S:.0f} seconds.",
                    why="Somebody may be guessing.",
                    todo="Wait a minute, then try again.",
                )

    def note(self, address: str) -> None:
        """One more wrong secret."""
        with self._lock:
            times = self._times.pop(address, None) or deque(maxlen=FAILURES)
            times.append(self._clock())
            self._times[address] = times
            while len(self._times) > ADDRESSES:
                self._times.pop(next(iter(self._times)))


def same(shown: str, expected: str) -> bool:
    """Whether two strings are equal, in time that tells neither where they differ nor how long they are."""
    digests = [hashlib.sha256(each.encode("utf-8", "surrogatepass")).digest() for each in (shown, expected)]
    return hmac.compare_digest(*digests)


def caller(request: Request, proxies: int) -> str:
    """Where a call comes from, as failures are counted: an IPv4 address or the /64 of an IPv6 one.

    Args:
        proxies: how many proxies of ours stand in front. So many entries at the end of X-Forwarded-For were
            written by them; what stands before was written by whoever called, and is believed by nobody.
    """
    address = request.remote_addr or "a socket"
    if proxies:
        listed = ",".join(request.headers.getlist("X-Forwarded-For")).split(",")
        hops = [hop.strip() for hop in listed if hop.strip()]
        address = hops[-proxies] if len(hops) >= proxies else address
    return _network(address)


def _network(address: str) -> str:
    try:
        number = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    mapped = getattr(number, "ipv4_mapped", None)
    if number.version == 4 or mapped:
        return str(mapped or number)
    return str(ipaddress.ip_network((number, _IPV6_NETWORK), strict=False))
