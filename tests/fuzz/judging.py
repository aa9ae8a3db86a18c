"""What no answer may be: a 500, a trace, a secret, a prediction that cannot be shown."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from werkzeug.test import run_wsgi_app

from backend.app import OPEN_PATHS
from fuzz.cases import Case
from fuzz.target import LABEL_STUDIO, SECRETS, Target
from illume_plugin.label_config import LabelConfig, parse_label_config
from illume_plugin.predictions import check_prediction
from illume_plugin.store import projects

#: On purpose: not now, and not implemented.
PURPOSELY = {501, 503}
#: What strangers are told: nothing, but for the little that is open.
REFUSALS = {400, 401, 403, 404, 405, 413, 429}
_TRACES = ("Traceback (most recent", 'File "/', "site-packages", "sqlalchemy.", "werkzeug.exceptions")


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")


def send(target: Target, case: Case) -> Answer:
    """Send a request through the whole app, as a server would."""
    chunks, status, headers = run_wsgi_app(target.app.wsgi_app, case.environ(target.cookie))
    body = b"".join(chunks)
    close = getattr(chunks, "close", None)
    if close is not None:
        close()
    return Answer(int(status.split()[0]), dict(headers), body)


def judge(target: Target, case: Case, answer: Answer) -> list[str]:
    """What is wrong with an answer, with what was logged beside it, and with who was asked for it."""
    return [
        *_status_problems(case, answer),
        *_leaks(answer, target.told.read()),
        *_header_problems(answer),
        *_strays(target),
        *_prediction_problems(target, case, answer),
    ]


def _status_problems(case: Case, answer: Answer) -> Iterator[str]:
    if answer.status >= 500 and answer.status not in PURPOSELY:
        yield f"answered {answer.status}"
    open_to_all = _seen_path(case) in OPEN_PATHS
    if not case.who.may and not open_to_all and answer.status not in REFUSALS:
        yield f"{case.who} was answered {answer.status}"
    if answer.status >= 400 and case.method != "HEAD" and not answer.body:
        yield f"{answer.status} without a word"


def _seen_path(case: Case) -> str:
    """The path as the app reads it: without a secret in it, right or wrong, and with one slash in front."""
    parts = case.path.decode("latin-1").split("/", 3)
    if len(parts) >= 3 and parts[1] == "s":
        parts = ["", *parts[3:]]
    return "/" + "/".join(parts).lstrip("/")


def _leaks(answer: Answer, records: list[logging.LogRecord]) -> Iterator[str]:
    told = answer.text + json.dumps(answer.headers)
    yield from (f"the answer holds {trace!r}" for trace in _TRACES if trace in told)
    yield from (f"the answer holds the secret {one!r}" for one in SECRETS if one in told)
    if "<script>alert" in told and "html" in answer.headers.get("Content-Type", ""):
        yield "the page holds a script of an outsider"
    for record in records:
        line = record.getMessage()
        if record.exc_info:
            yield f"an error nobody has handled: {record.exc_info[1]!r:.300}"
        if any(one in line for one in SECRETS):
            yield f"the log holds a secret: {line:.200}"
        if record.name.startswith("backend") and ("\n" in line or "\x1b" in line):
            yield f"the log has a line that is not ours: {line!r:.200}"


def _header_problems(answer: Answer) -> Iterator[str]:
    for name in ("Content-Security-Policy", "X-Content-Type-Options"):
        if name not in answer.headers:
            yield f"{name} is missing"
    for name, value in answer.headers.items():
        if "\n" in value or "\r" in value or name.lower() == "x-injected":
            yield f"the header {name} was broken open"


def _strays(target: Target) -> list[str]:
    asked, target.asked = target.asked, []
    ours = (str(request.url) for request in asked)
    return [f"{url} was asked" for url in ours if not url.startswith(f"{LABEL_STUDIO}/")]


def _prediction_problems(target: Target, case: Case, answer: Answer) -> list[str]:
    """What Label Studio would choke on."""
    if case.path != b"/predict" or answer.status != 200 or case.method != "POST":
        return []
    body, told = json.loads(case.body), json.loads(answer.body, parse_constant=_no_constant)
    if len(told["results"]) != len(body["tasks"]):
        return [f"{len(told['results'])} results for {len(body['tasks'])} tasks"]
    config = _config(target, body)
    found = []
    for item in told["results"]:
        if "result" not in item and not item.get("error"):
            found.append("a task without a result and without a reason")
        if item.get("result"):
            found += [*check_prediction(config, item), *_unshowable(config, item)]
    return found


def _no_constant(name: str) -> float:
    raise AssertionError(f"{name} is no JSON")


def _config(target: Target, body: dict[str, Any]) -> LabelConfig:
    if body.get("label_config"):
        return parse_label_config(body["label_config"])
    number = int(
        str(body["project"]["id"] if isinstance(body["project"], dict) else body["project"]).split(".")[0]
    )
    with target.service.store.read() as conn:
        return parse_label_config(projects.get(conn, number).label_config)


def _unshowable(config: LabelConfig, item: dict[str, Any]) -> Iterator[str]:
    """Independent of the product's own check: what a task needs to open."""
    if not (isinstance(item["model_version"], str) and 0 < len(item["model_version"]) <= 64):
        yield "model_version is no short text"
    if not (math.isfinite(item["score"]) and 0 <= item["score"] <= 1):
        yield "score is no share"
    for region in item["result"]:
        if not all(isinstance(region[key], str) for key in ("id", "from_name", "to_name", "type")):
            yield "a region lacks a name"
        if region["from_name"] not in config.controls or region["to_name"] != config.to_name:
            yield "a region of a control that is not there"
        for text in region["value"]["text"]:
            if not text.strip() or any(ord(c) < 0x20 or 0xD800 <= ord(c) <= 0xDFFF for c in text):
                yield f"a text that cannot be shown: {text!r:.80}"
