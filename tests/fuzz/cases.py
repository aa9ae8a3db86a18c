"""What is sent: to every rule of the app's url_map, so that no new endpoint is forgotten, and to no rule;
as Label Studio, as a person at this machine, and as strangers."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import urlencode

from flask import Flask
from hypothesis import strategies as st
from werkzeug.routing import Rule

from backend.settings import BASIC_USER, SECRET_HEADER
from fuzz.mutation import JSON_LIKE, NO_JSON, TEXTS, encoded, mutated
from fuzz.target import PASSWORD, PROJECT, SECRET


class Who(StrEnum):
    """Who calls, and what they show."""

    LABEL_STUDIO = "Label Studio's connector (Basic)"
    WEBHOOK = "Label Studio's webhook (header)"
    IN_PATH = "the secret in the path"
    PERSON = "a person at this machine"
    STRANGER = "somebody far away, without a secret"
    GUESSER = "somebody far away, with a wrong secret"

    @property
    def may(self) -> bool:
        """Whether anything behind the doors may open."""
        return self not in (Who.STRANGER, Who.GUESSER)


@dataclass(frozen=True)
class Case:
    """One request.

    Attributes:
        path: bytes of the path as a server gives them to the app, percent signs decoded.
    """

    endpoint: str
    method: str
    path: bytes
    query: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    content_type: str
    who: Who

    def environ(self, cookie: str) -> dict[str, Any]:
        """The request as a WSGI server hands it on."""
        prefix = b"/s/" + SECRET.encode() if self.who is Who.IN_PATH else b""
        near = self.who is Who.PERSON
        found: dict[str, Any] = {
            "REQUEST_METHOD": self.method,
            "SCRIPT_NAME": "",
            "PATH_INFO": (prefix + self.path).decode("latin-1"),
            "QUERY_STRING": self.query,
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "9090",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "HTTP_HOST": "localhost:9090" if near else "illume.example:9090",
            "REMOTE_ADDR": "127.0.0.1" if near else "203.0.113.7",
            "CONTENT_LENGTH": str(len(self.body)),
            "CONTENT_TYPE": self.content_type,
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(self.body),
            "wsgi.errors": io.StringIO(),
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        if near:
            found["HTTP_COOKIE"] = cookie
        found |= {_environ_name(name): value for name, value in self.headers}
        return found | self._shown()

    def _shown(self) -> dict[str, str]:
        match self.who:
            case Who.LABEL_STUDIO:
                return {"HTTP_AUTHORIZATION": _basic(BASIC_USER, SECRET)}
            case Who.WEBHOOK:
                return {_environ_name(SECRET_HEADER): SECRET}
            case Who.PERSON:
                return {"HTTP_AUTHORIZATION": _basic("anna", PASSWORD)}
            case Who.GUESSER:
                return {"HTTP_AUTHORIZATION": _basic(BASIC_USER, f"{SECRET[:-1]}x")}
            case _:
                return {}

    def __str__(self) -> str:
        return (
            f"{self.method} {self.path[:120]!r}?{self.query[:80]} as {self.who.name} {dict(self.headers)} "
            f"{self.content_type} {self.body[:400]!r}{'...' if len(self.body) > 400 else ''}"
        )


def _environ_name(header: str) -> str:
    name = header.upper().replace("-", "_")
    return name if name in ("CONTENT_LENGTH", "CONTENT_TYPE") else f"HTTP_{name}"


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


#: What a path's variable may be; most often something that leads on.
_INTS = (
    "2",
    "2",
    "2",
    "1",
    "3",
    "0",
    "99",
    "-1",
    "1.5",
    "9" * 18,
    "9" * 19,
    "9" * 5000,
    "\u0663",
    "2\n",
    "",
    "x",
)
_WORDS = ("v0001", "v0000", "v0002", "v1", "..", ".", "v0001\x00", "v" + "9" * 30, "v" + "9" * 5000, "%2e%2e")
_FILES = (
    "live.js",
    "status.css",
    "../app.py",
    "..%2f..%2fsettings.py",
    "/etc/passwd",
    "a/../../x",
    "\x00",
    "",
)
_PIECES = {"int": _INTS, "string": _WORDS, "default": _WORDS, "path": _FILES}
_QUERY_NAMES = ("version", "which", "after", "before", "project", "x")
_QUERY_VALUES = ("all", "judged", "problems", "v0001", "3", "0", "-1", "9" * 18, "9" * 30, *TEXTS)
#: Headers with a meaning somewhere between a client and us, and values that fit none of them.
_HEADERS = (
    *("Authorization", "Cookie", "X-Forwarded-For", "X-Forwarded-Host", "Forwarded", "X-Real-Ip", "Host"),
    *("Content-Length", "Content-Type", "Transfer-Encoding", "Content-Encoding", "Accept", "Accept-Encoding"),
    *("X-Illume-Live", "If-None-Match", "If-Modified-Since", "Range", "Origin", "Sec-Fetch-Site", "Referer"),
    *("X-HTTP-Method-Override", "User-Agent", "X-Request-Id", SECRET_HEADER),
)
_HEADER_VALUES = (
    *("", " ", "1", "-1", "abc", "gzip", "chunked", "*", "bytes=0-", '"', 'W/"x"', "null", "evil.example"),
    *("10.0.0.7", "127.0.0.1", "Basic", "Basic ====", "Basic gA==", "Bearer x", "Token \x00", "x" * 10_000),
    *("illume_status=x", "illume_status=eyJ0b2tlbiI6IngifQ.a.b", "\xff\xfe", "text/html", "application/json"),
    *("multipart/form-data; boundary=x", "application/x-www-form-urlencoded; charset=utf-7", "a\tb"),
)
_CONTENT_TYPES = (
    *("application/json",) * 6,
    *("", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "\xff/\xff"),
)
_METHODS = ("GET", "POST", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE", "TRACE", "get", "X")
_STRAY_PATHS = (
    b"/",
    b"//",
    b"/s/",
    b"/s",
    b"/s/x",
    b"/s//predict",
    b"/../x",
    b"/%2e",
    b"/\xff\xfe",
    b"/a\nb",
    b"*",
    b"",
)


def _one_of(values: tuple[Any, ...]) -> st.SearchStrategy[Any]:
    return st.integers(0, len(values) - 1).map(values.__getitem__)


def requests(app: Flask, bodies: dict[str, list[Any]], form_token: str) -> st.SearchStrategy[Case]:
    """Requests to every rule of the app and to none."""
    rules = sorted(app.url_map.iter_rules(), key=lambda rule: (rule.rule, rule.endpoint))
    recorded = _recorded(bodies)
    anything = st.integers(0, len(rules) - 1).flatmap(lambda k: requests_to(rules[k], bodies, form_token))
    return st.one_of(recorded, recorded, recorded, anything, anything, _stray())


def _recorded(bodies: dict[str, list[Any]]) -> st.SearchStrategy[Case]:
    """Label Studio's own requests, spoilt."""
    paths = tuple(sorted(bodies))
    return _one_of(paths).flatmap(
        lambda path: st.builds(
            Case,
            endpoint=st.just(path),
            method=st.just("POST"),
            path=st.just(path.encode()),
            query=st.just(""),
            headers=st.just(()),
            body=mutated(bodies[path]).map(encoded),
            content_type=st.just("application/json"),
            who=_one_of((Who.LABEL_STUDIO, Who.WEBHOOK, Who.IN_PATH)),
        )
    )


def requests_to(rule: Rule, bodies: dict[str, list[Any]], form_token: str) -> st.SearchStrategy[Case]:
    """Requests to one rule of the app."""
    theirs = rule.endpoint.startswith("dashboard.")
    known = tuple(sorted(rule.methods or ()))
    usual = (Who.PERSON,) * 6 if theirs else (Who.LABEL_STUDIO, Who.WEBHOOK, Who.IN_PATH) * 2
    form = theirs and "POST" in known
    return st.builds(
        Case,
        endpoint=st.just(rule.endpoint),
        method=_one_of(known * 4 + _METHODS),
        path=_paths(rule),
        query=_queries(),
        headers=_some_headers(),
        body=_forms(form_token) if form else _some_body(bodies.get(rule.rule, [])),
        content_type=st.just("application/x-www-form-urlencoded") if form else _one_of(_CONTENT_TYPES),
        who=_one_of((*usual, *Who)),
    )


def _paths(rule: Rule) -> st.SearchStrategy[bytes]:
    """The rule's path with something in place of each of its variables."""
    pieces: list[st.SearchStrategy[str]] = []
    for part in rule.rule.split("/")[1:]:
        if part.startswith("<"):
            kind, _, _ = part[1:-1].rpartition(":")
            odd = _one_of(_PIECES[kind or "default"])
            pieces.append(
                odd if kind == "path" else st.one_of(st.just(_usual(kind)), odd, st.text(max_size=5))
            )
        else:
            pieces.append(st.just(part))
    return st.tuples(*pieces).map(lambda found: ("/" + "/".join(found)).encode("utf-8", "replace"))


def _usual(kind: str) -> str:
    return str(PROJECT) if kind == "int" else "v0001"


def _queries() -> st.SearchStrategy[str]:
    pairs = st.tuples(_one_of(_QUERY_NAMES), _one_of(_QUERY_VALUES))
    written = st.lists(pairs, max_size=3).map(lambda found: urlencode(found, errors="replace"))
    return st.one_of(st.just(""), written, _one_of(("%", "%ff=%00", "a=b&&&==", "after=%0a", "x" * 9000)))


def _some_headers() -> st.SearchStrategy[tuple[tuple[str, str], ...]]:
    return st.one_of(
        st.just(()), st.lists(st.tuples(_one_of(_HEADERS), _one_of(_HEADER_VALUES)), max_size=3).map(tuple)
    )


def _some_body(bodies: list[Any]) -> st.SearchStrategy[bytes]:
    choices = [
        _one_of(NO_JSON),
        JSON_LIKE.map(encoded),
        st.dictionaries(_one_of(_KEYS), JSON_LIKE).map(encoded),
    ]
    if bodies:
        choices += [mutated(bodies).map(encoded), _one_of(tuple(bodies)).map(encoded)]
    return st.one_of(choices)


_KEYS = (
    "project",
    "tasks",
    "action",
    "label_config",
    "schema",
    "params",
    "job",
    "config",
    "annotation",
    "task",
)


def _forms(form_token: str) -> st.SearchStrategy[bytes]:
    token = _one_of((form_token, form_token, form_token, "", "x", "\ud800"))
    expected = _one_of(("v0000", "v0001", "", *TEXTS))
    whole = st.tuples(token, expected, _one_of(TEXTS)).map(
        lambda found: urlencode(
            {"token": found[0], "expected": found[1], "why": found[2]}, errors="replace"
        ).encode()
    )
    return st.one_of(whole, whole, whole, _one_of(NO_JSON))


def _stray() -> st.SearchStrategy[Case]:
    return st.builds(
        Case,
        endpoint=st.just("(none)"),
        method=_one_of(_METHODS),
        path=st.one_of(_one_of(_STRAY_PATHS), st.binary(max_size=20).map(lambda found: b"/" + found)),
        query=_queries(),
        headers=_some_headers(),
        body=_one_of(NO_JSON),
        content_type=_one_of(_CONTENT_TYPES),
        who=_one_of(tuple(Who)),
    )
