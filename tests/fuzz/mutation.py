"""Bad bodies: recorded ones with parts deleted, doubled, retyped, nested, made giant; and no JSON at all."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import strategies as st

#: Texts that break out of their place somewhere: in HTML, SQL, paths, terminals, logs, databases, templates.
TEXTS = (
    "",
    " ",
    "<script>alert(1)</script>",
    "\"'><img src=x onerror=alert(1)>",
    "{{7*7}}{% raw %}",
    "'; DROP TABLE tasks; --",
    "../../../../etc/passwd",
    "..\\..\\secret",
    "/s/wrong/predict",
    "\x00",
    "a\x00b",
    "\x1b[31mred\x1b[0m\x07",
    "line\r\nX-Injected: yes\r\n\r\nbody",
    "\ud800",
    "ok \udfff\ud800",
    "\u202egnp.exe",
    "\ufeff\u200b\u2028\u2029",
    "e\u0301" * 50,
    "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "NaN",
    "1e400",
    "-1",
    "v0001",
    "v9999999999999999",
    "2.1795304853",
    "99999999999999999999.1",
    "file:///etc/passwd",
    "http://169.254.169.254/latest/meta-data/",
    "http://127.0.0.1:1/",
    "http://[::1]:99999/",
    "http://user:pass@127.0.0.1/",
    "s3://bucket/\ud800.png",
    "javascript:alert(1)",
    "/data/../secret",
    "0001-01-01T00:00:00+23:59",
    "9999-12-31T23:59:59.999999-23:59",
    "<View><View>",
    '<!DOCTYPE a [<!ENTITY b "c">]><View>&b;</View>',
)
NUMBERS: tuple[int | float, ...] = (
    *(0, -1, 1, 2, 3, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64, -(2**63) - 1, 10**25, 10**4000),
    *(0.5, -0.0, 1e308, 5e-324, float("nan"), float("inf"), float("-inf")),
)


def deep(levels: int) -> Any:
    """Lists and objects in turn, so many levels."""
    found: Any = 1
    for level in range(levels):
        found = [found] if level % 2 else {"a": found}
    return found


#: Drawn by index: cheap, and small ones come first when a failure is made smaller.
ODD_VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    [],
    {},
    [None],
    {"": None},
    *TEXTS,
    *NUMBERS,
    {"id": 1},
    [{"id": 2**70}],
    {"__proto__": {"a": 1}, "constructor": 1, "\x00": "\ud800"},
    deep(30),
    deep(150),
    deep(700),
    "x" * 200_000,
    "\U0001f600" * 20_000,
    [0] * 20_000,
    {str(k): k for k in range(5_000)},
)
JSON_LIKE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(TEXTS),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
#: Bodies that are no JSON, or JSON that parsers choke on.
NO_JSON: tuple[bytes, ...] = (
    b"",
    b"{",
    b"null",
    b"[1, 2]",
    b'"text"',
    b"NaN",
    b"\xff\xfe{\x00}\x00",
    b"\xef\xbb\xbf{}",
    b'{"a": 1} trailing',
    b"\x00" * 64,
    b'{"a": "\xff"}',
    b'{"a": "\\ud800"}',
    b"[" * 100_000,
    b'{"a":' * 50_000,
    b"[" * 400 + b"]" * 400,
    b'{"project": ' + b"1" * 5_000 + b"}",
    b'{"project": {"id": 2}, "project": 3}',
    b"action=ANNOTATION_CREATED&project=2",
    b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n--x--\r\n',
    b"\x1f\x8b\x08\x00\x00\x00\x00\x00",
)
#: Keys that decide something; the rest is most of a payload and hardly looked at.
TELLING = frozenset(
    (
        *("id", "project", "tasks", "task", "action", "annotation", "annotations", "result", "data", "image"),
        *("question", "answer", "label_config", "schema", "title", "updated_at", "completed_by", "lead_time"),
        *(
            "params",
            "context",
            "value",
            "text",
            "choices",
            "meta",
            "illume",
            "texts",
            "versions",
            "from_name",
        ),
    )
)
Path = tuple[str | int, ...]


def places(value: Any, at: Path = ()) -> Iterator[Path]:
    """Every place inside a JSON value, the outermost first."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inside:
        yield (*at, key)
        yield from places(item, (*at, key))


def _deleted(holder: Any, key: Any, _value: Any) -> None:
    del holder[key]


def _doubled(holder: Any, key: Any, _value: Any) -> None:
    if isinstance(holder, list):
        holder.insert(key, copy.deepcopy(holder[key]))
    else:
        holder[key] = [holder[key], copy.deepcopy(holder[key])]


def _replaced(holder: Any, key: Any, value: Any) -> None:
    holder[key] = value


def _wrapped(holder: Any, key: Any, _value: Any) -> None:
    holder[key] = {"id": holder[key]}


def _as_text(holder: Any, key: Any, _value: Any) -> None:
    # of an object its keys alone: a token inside it would be an ordinary text from here on
    holder[key] = json.dumps(sorted(holder[key]) if isinstance(holder[key], dict) else holder[key])


def _emptied(holder: Any, key: Any, _value: Any) -> None:
    holder[key] = type(holder[key])() if holder[key] is not None else 0


MUTATIONS: tuple[Callable[[Any, Any, Any], None], ...] = (
    _replaced,
    _deleted,
    _doubled,
    _wrapped,
    _as_text,
    _emptied,
    _replaced,
    _replaced,
)


@st.composite
def mutated(draw: st.DrawFn, bodies: list[Any]) -> Any:
    """One of the bodies with up to four parts spoilt."""
    body = copy.deepcopy(bodies[draw(st.integers(0, len(bodies) - 1))])
    for _ in range(draw(st.integers(1, 4))):
        known = list(places(body))
        if not known:
            break
        if draw(st.booleans()):
            known = [place for place in known if place[-1] in TELLING] or known
        *where, key = known[draw(st.integers(0, len(known) - 1))]
        holder = body
        for step in where:
            holder = holder[step]
        odd = (
            ODD_VALUES[draw(st.integers(0, len(ODD_VALUES) - 1))] if draw(st.booleans()) else draw(JSON_LIKE)
        )
        MUTATIONS[draw(st.integers(0, len(MUTATIONS) - 1))](holder, key, copy.deepcopy(odd))
    return body


def encoded(value: Any) -> bytes:
    """JSON as a careless sender writes it: NaN, lone surrogates and all."""
    return json.dumps(value).encode()
