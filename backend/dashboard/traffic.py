"""How many requests came to this process, and how long they took, by endpoint."""

from __future__ import annotations

import threading
import time
from collections import Counter
from itertools import accumulate

from flask import Flask, Response, current_app, g, request

from backend.dashboard.exposition import Family

EXTENSION = "illume_traffic"
#: Upper bounds of the histogram, seconds; Label Studio gives up after 1 s (/webhook) and 100 s (/predict).
BOUNDS = (0.005, 0.02, 0.1, 0.5, 1.0, 5.0, 25.0, 100.0)


class Traffic:
    """Counts since the process began."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, int]] = Counter()
        self._below: dict[str, list[int]] = {}
        self._seconds: Counter[str] = Counter()

    def note(self, endpoint: str, status: int, seconds: float) -> None:
        """One request was answered."""
        place = next((k for k, bound in enumerate(BOUNDS) if seconds <= bound), len(BOUNDS))
        with self._lock:
            self._requests[endpoint, status] += 1
            self._below.setdefault(endpoint, [0] * (len(BOUNDS) + 1))[place] += 1
            self._seconds[endpoint] += seconds  # type: ignore[assignment]

    def families(self) -> list[Family]:
        """As Prometheus takes them."""
        requests = Family("illume_http_requests_total", "counter", "Requests answered by this process.")
        seconds = Family(
            "illume_http_request_duration_seconds", "histogram", "Time until the answer was ready."
        )
        with self._lock:
            for (endpoint, status), count in sorted(self._requests.items()):
                requests.add(count, endpoint=endpoint, status=status)
            for endpoint, counts in sorted(self._below.items()):
                upto = list(accumulate(counts))
                for bound, count in zip([*BOUNDS, "+Inf"], upto, strict=True):
                    seconds.add(count, suffix="_bucket", endpoint=endpoint, le=bound)
                seconds.add(self._seconds[endpoint], suffix="_sum", endpoint=endpoint)
                seconds.add(upto[-1], suffix="_count", endpoint=endpoint)
        return [requests, seconds]


def install(app: Flask) -> None:
    """Measure every request of the app."""
    app.extensions[EXTENSION] = traffic = Traffic()

    @app.before_request
    def begin() -> None:
        g.began = time.perf_counter()

    @app.after_request
    def end(response: Response) -> Response:
        seconds = time.perf_counter() - g.get("began", time.perf_counter())
        traffic.note(request.endpoint or "none", response.status_code, seconds)
        return response


def traffic_of(app: Flask) -> Traffic:
    """What is counted of the app."""
    found: Traffic = app.extensions[EXTENSION]
    return found


def families() -> list[Family]:
    """The traffic of the app that answers."""
    return traffic_of(current_app).families()
