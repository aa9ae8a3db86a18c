"""Pages that renew themselves: the script asks for its own page, and gets it when it has changed.

Polling and not server-sent events: an open stream would hold one of the server's threads per viewer, and a
poll may be answered by any process. What is asked is kept (keeping.py), so viewers cost next to nothing.
"""

from __future__ import annotations

from flask import Response, request

#: The script's requests carry it; such a page has no notices, which belong to the visitor's own next page.
HEADER = "X-Illume-Live"


def asked() -> bool:
    """Whether the script asks, not a person."""
    return HEADER in request.headers


def only_if_changed(response: Response) -> Response:
    """304 without a body where the script has this page already."""
    if asked() and request.method == "GET" and response.status_code == 200:
        response.headers["Cache-Control"] = "no-store"
        response.add_etag()
        response.make_conditional(request)
    return response
