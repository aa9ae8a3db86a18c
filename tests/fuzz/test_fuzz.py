"""A short attack on every endpoint, and whether the judge finds what it should; the long one: make fuzz."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from conftest import PAYLOADS
from flask import Response
from hypothesis import strategies as st

from backend.data_folder import DATABASE
from fuzz.attack import Tally, attack, see_that_all_works
from fuzz.cases import Case, Who, requests, requests_to
from fuzz.target import SECRET, Target, payloads

#: Fixed, so that a change of ours and nothing else makes a difference; make fuzz goes through others.
SEED = 1
BODIES = payloads(PAYLOADS)


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Target]:
    target = Target(tmp_path)
    yield target
    target.close()


@pytest.mark.parametrize("password", [False, True])
def test_no_request_breaks_anything(tmp_path: Path, *, password: bool) -> None:
    target, tally = Target(tmp_path, password=password), Tally()
    strategy = requests(target.app, BODIES, target.form_token)
    attack(target, strategy, cases=500, seed=SEED + password, tally=tally)
    see_that_all_works(target, seed=SEED + password, tally=tally)
    target.close()
    assert tally.findings == []
    assert {200, 201, 400, 401, 404, 405} <= set(tally.statuses), "cases of every kind were among them"


def test_every_endpoint_is_attacked(target: Target) -> None:
    tally = Tally()
    rules = sorted(target.app.url_map.iter_rules(), key=lambda rule: rule.rule)
    for rule in rules:
        attack(target, requests_to(rule, BODIES, target.form_token), cases=10, seed=SEED, tally=tally)
    see_that_all_works(target, seed=SEED, tally=tally)
    assert tally.findings == []
    assert set(tally.endpoints) == {rule.endpoint for rule in rules}


# -- the judge itself --------------------------------------------------------------------------------------


def asked(target: Target, path: str, who: Who = Who.LABEL_STUDIO) -> list[str]:
    case = Case(path, "GET", path.encode(), "", (), b"", "", who)
    tally = Tally()
    attack(target, st.just(case), cases=1, seed=0, tally=tally)
    return tally.findings


def broken(kind: str) -> Any:
    match kind:
        case "error":
            raise RuntimeError("not thought of")
        case "trace":
            return Response("Traceback (most recent call last):")
        case "secret":
            return Response(f"it is {SECRET}")
        case "log":
            logging.getLogger("backend.app").warning("the secret is %s", SECRET)
        case "line":
            logging.getLogger("backend.app").warning("GET /\nERROR all is lost")
        case "header":
            return Response("x", headers={"X-Injected": "yes"})
        case "script":
            return Response("<b><script>alert(1)</script>", content_type="text/html")
    return Response("fine")


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        ("error", "answered 500"),
        ("trace", "the answer holds 'Traceback"),
        ("secret", "holds the secret"),
        ("log", "log holds a secret"),
        ("line", "a line that is not ours"),
        ("header", "broken open"),
        ("script", "script of an outsider"),
    ],
)
def test_the_judge_finds(target: Target, kind: str, found: str) -> None:
    target.app.view_functions["protocol.versions"] = lambda: broken(kind)
    (finding,) = asked(target, "/versions")
    assert found in finding


def test_the_judge_finds_an_open_door(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    assert asked(target, "/versions", Who.STRANGER) == []
    monkeypatch.setattr("backend.admission.Admission.check", lambda *_: None)
    (finding,) = asked(target, "/versions", Who.STRANGER)
    assert "was answered 200" in finding


def test_the_judge_finds_an_exception_on_the_way_in(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backend.admission.same", lambda *_: 1 / 0)
    (finding,) = asked(target, "/versions", Who.IN_PATH)
    assert "ZeroDivisionError came out of the app" in finding


def test_a_lock_that_is_kept_is_found(target: Target) -> None:
    assert target.problems() == []
    with closing(sqlite3.connect(target.service.settings.data_dir / DATABASE, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        (finding,) = target.problems()
    assert "lock was kept" in finding


def test_a_token_that_was_kept_is_found(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("illume_plugin.preferences.secrets._SECRET_KEYS", frozenset())
    body = next(one for one in BODIES["/webhook"] if one["action"] == "ANNOTATION_CREATED")
    target.service.receive(body)
    assert "the database holds a token of a payload" in target.problems()
