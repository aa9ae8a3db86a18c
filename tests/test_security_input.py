"""What outsiders write: kept from paths, databases, logs, pages, terminals, and from being run."""

from __future__ import annotations

import ast
import io
import json
import logging
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from conftest import SELECT, both_stores, task
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from test_retrain import submitted

import backend
import illume_plugin
from backend.backup.archive import is_name, nowhere, read
from backend.cli import PlainErrors
from backend.cli.printing import plain
from backend.data_folder import DATABASE
from backend.service import Service
from illume_plugin.errors import BadRequestError, ImageError, LabelConfigError, NotFoundError, in_words
from illume_plugin.images.addresses import Addresses, quotable
from illume_plugin.label_config import parse_label_config
from illume_plugin.predictions import arrange, check_prediction, render_prediction
from illume_plugin.store import projects
from illume_plugin.types import BASE_VERSION, MAX_ID, Candidate, Task

LOCALLY: dict[str, Any] = {"base_url": "http://localhost", "environ_base": {"REMOTE_ADDR": "127.0.0.1"}}
SOURCES = [Path(one.__file__ or "").parent for one in (backend, illume_plugin)]
SCRIPT = '<script>alert("x")</script>'


# -- bodies --------------------------------------------------------------------------------------------------

DEEP = [
    b"[" * 100_000,
    b'{"a":' * 50_000,
    b'{"project": "2.1", "tasks": ' + b"[" * 500 + b"]" * 500 + b"}",
    b'{"project": ' + b'{"id": ' * 150 + b"2" + b"}" * 150 + b"}",
    b'{"action": "X", "project": {"id": 2}, "more": ' + b"[" * 101 + b"]" * 101 + b"}",
]


@pytest.mark.parametrize("path", ["/predict", "/setup", "/webhook", "/train", "/validate", "/job_status"])
@pytest.mark.parametrize("body", DEEP, ids=range(len(DEEP)))
def test_a_body_that_nests_without_end_is_refused(
    client: FlaskClient, connected: int, path: str, body: bytes
) -> None:
    answer = client.post(path, data=body, content_type="application/json")
    assert answer.status_code == 400
    assert answer.content_type == "application/problem+json"


def test_label_studios_own_depth_is_no_trouble(client: FlaskClient, connected: int) -> None:
    body = {"action": "X", "project": {"id": 2}, "more": json.loads("[" * 90 + "]" * 90)}
    assert client.post("/webhook", json=body).status_code == 201


@pytest.mark.parametrize("number", [MAX_ID + 1, 2**64, 10**25, 10**4000, -1, 0])
def test_a_number_that_no_database_holds_is_refused(client: FlaskClient, connected: int, number: int) -> None:
    answers = [
        client.post("/setup", json={"project": number, "schema": SELECT}),
        client.post("/train", json={"project": {"id": number}}),
        client.post("/predict", json={"project": "2.1", "tasks": [{**task(1), "id": number}]}),
        client.post("/webhook", json={"action": "START_TRAINING", "project": {"id": number}}),
        client.post("/webhook", json=submitted(1, ["c1"]) | {"project": {"id": number}}),
    ]
    assert {answer.status_code for answer in answers} == {400}
    assert all(len(answer.get_json()["detail"]) < 200 for answer in answers)


@pytest.mark.parametrize("number", ["9" * 19, "9" * 5000, "-1", "1.0", "٣", "2%0a"])
@pytest.mark.parametrize("path", ["/status/{}", "/api/projects/{}", "/api/projects/2/runs/{}"])
def test_a_number_in_a_path_is_a_number(
    stranger: FlaskClient, connected: int, path: str, number: str
) -> None:
    assert stranger.get(path.format(number), **LOCALLY).status_code in (401, 404)


@both_stores
@pytest.mark.parametrize("word", ["a\x00b", "\ud800", "é\u202e", "'; DROP TABLE tasks; --", "{{7*7}}"])
def test_texts_that_databases_trip_over(
    client: FlaskClient, service: Service, connected: int, word: str
) -> None:
    event = submitted(7, ["c1"])
    event["annotation"]["result"][0]["value"]["text"][0] = word
    event["task"]["data"] |= {"question": word, word: word}
    event["project"]["title"] = word
    assert client.post("/webhook", json=event).status_code == 201
    assert service.apply_events() == 1
    body = {"tasks": [task(8, question=word)], "project": "2.1", "label_config": SELECT}
    assert client.post("/predict", json=body).status_code == 200
    for path in ("/status/2/candidates", "/api/projects/2/tasks"):
        page = client.get(path, headers={"Authorization": ""}, **LOCALLY)
        assert page.status_code == 200
    assert client.get("/status/2/candidates?version=a%00b", **LOCALLY).status_code == 400


def test_an_answer_repeats_nothing_of_a_body_that_is_none(
    client: FlaskClient, connected: int, caplog: pytest.LogCaptureFixture
) -> None:
    for body in (b'{"token": "hush-hush", ', b'["hush-hush"]', b'{"project": {"token": "hush-hush"}}'):
        for path in ("/webhook", "/predict", "/setup", "/train"):
            answer = client.post(path, data=body, content_type="application/json")
            assert answer.status_code == 400
            assert "hush" not in answer.text + caplog.text


@given(
    st.recursive(
        st.none() | st.integers() | st.floats() | st.text(), lambda some: st.lists(some), max_leaves=9
    )
)
def test_an_error_names_a_value_briefly(value: object) -> None:
    said = in_words(value)
    assert len(said) < 600
    assert said.isprintable()


# -- names ---------------------------------------------------------------------------------------------------

TRAVERSAL = [
    "..",
    "../v0001",
    "v0001/..",
    "/etc/passwd",
    "v0001\x00",
    "v0001\n",
    "",
    ".",
    "v1",
    "v" + "9" * 30,
]


@pytest.mark.parametrize("name", [*TRAVERSAL, "V0001", "v００01"])
def test_a_version_is_no_path(service: Service, connected: int, name: str) -> None:
    with pytest.raises(NotFoundError):
        service.switch(2, name, reason="x")
    with service.store.read() as conn:
        assert projects.get(conn, 2).active_version == BASE_VERSION


@pytest.mark.parametrize("name", ["..", "%2e%2e", "..%2fv0001", "v0001%00", "v0001%0a", "v" + "9" * 5000])
def test_a_version_in_a_path_is_none(stranger: FlaskClient, connected: int, name: str) -> None:
    answer = stranger.get(f"/status/2/versions/{name}/promote", **LOCALLY)
    assert answer.status_code in (401, 404)


@pytest.mark.parametrize(
    "path", ["../backend/app.py", "..%2fapp.py", "%2e%2e/templates/base.html", "/etc/passwd", "....//x"]
)
def test_no_file_but_the_pages_own(stranger: FlaskClient, path: str) -> None:
    answer = stranger.get(f"/status/static/{path}", **LOCALLY)
    assert answer.status_code in (401, 404)


def test_a_sparse_member_of_a_backup_is_refused(tmp_path: Path) -> None:
    """It may claim to be larger than any disk while the archive is small."""
    member = tarfile.TarInfo(DATABASE)
    member.type = tarfile.GNUTYPE_SPARSE
    assert is_name(member.name)
    with tarfile.open(tmp_path / "x.tar", "w:", format=tarfile.GNU_FORMAT) as tar:
        tar.addfile(member, io.BytesIO())
    with pytest.raises(BadRequestError, match="does not belong there"):
        read(tmp_path / "x.tar", nowhere, lambda _: None)


# -- labelling configurations --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("xml", "says"),
    [
        ("<View>" * 60 + "</View>" * 60, "levels deep"),
        ("<View>" * 100_000 + "</View>" * 100_000, "characters"),
        ("<View>" * 50_000 + "</View>" * 50_000, "levels deep"),
        (f"<View><!-- {'x' * 1_000_000} --></View>", "characters"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><View>&b;</View>', "EntitiesForbidden"),
        ('<!DOCTYPE a SYSTEM "file:///etc/passwd"><View/>', "has no"),
    ],
)
def test_a_configuration_that_would_exhaust_us(xml: str, says: str) -> None:
    with pytest.raises(LabelConfigError, match=says):
        parse_label_config(xml)


# -- addresses -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("/data/local-files/?d=a/b.png", "/data/local-files/?d=a/b.png"),
        ("https://u:hush@host/a.png", "https://host/a.png"),
        ("https://host/a.png?X-Amz-Signature=hush", "https://host/a.png"),
        ("https://account.blob.example/c/a.png?sv=1&sig=hush#x", "https://account.blob.example/c/a.png"),
        ("s3://key:hush@bucket/a.png", "s3://bucket/a.png"),
        ("https://host?x=hush@y/z", "https://host"),
        ("https://host/" + "a" * 300, "https://host/" + "a" * 187 + "..."),
    ],
)
def test_an_address_is_quoted_without_what_may_be_a_key(address: str, told: str) -> None:
    assert quotable(address) == told


@pytest.mark.parametrize(
    "address",
    [
        "https://u:hush@somewhere/a.png",
        "https://somewhere/a.png?sig=hush",
        "https://somewhere:99999/a.png?sig=hush",
        "https://somewhere/\ud800?sig=hush",
        "s3://bucket/\ud800?sig=hush",
        "ftp://u:hush@somewhere/a.png?sig=hush",
    ],
)
def test_no_refusal_of_an_address_tells_its_key(address: str) -> None:
    addresses = Addresses("http://label-studio.example", None, ())
    with pytest.raises(ImageError) as caught:
        addresses.first(Task(2, 1, address, "what?", "a dog"))
    assert "hush" not in str(caught.value)


# -- where texts are shown -----------------------------------------------------------------------------------


def test_pages_show_texts_as_texts(client: FlaskClient, service: Service, connected: int) -> None:
    event = submitted(7, ["c1"])
    event["annotation"]["result"][0]["value"]["text"] = [SCRIPT, "'\"><b>", "a\x1b[31mb"]
    event["task"]["data"] |= {"question": SCRIPT, "answer": '"onload=x '}
    service.receive(event)
    service.apply_events()
    with service.store.write() as conn:
        projects.put(conn, 2, title=SCRIPT, label_config=SELECT, now=1.0)
    service.request_training(2, trigger=SCRIPT)
    paths = ["", "/runs", "/runs/1", "/versions", "/candidates", "/annotators", "/train", "/runs/1/cancel"]
    shown = [client.get(f"/status/2{path}", **LOCALLY) for path in paths]
    assert {page.status_code for page in shown} == {200}
    text = "".join(page.text for page in shown)
    assert "<script>alert" not in text
    assert text.count("&lt;script&gt;alert(") >= len(paths)
    assert "'\"><b>" not in text
    told = client.get("/api/projects/2/tasks", **LOCALLY)
    assert told.content_type == "application/json"
    assert told.get_json()["tasks"][0]["question"] == SCRIPT


def test_templates_escape_everything() -> None:
    templates = sorted((SOURCES[0] / "templates").glob("*"))
    assert templates
    for template in templates:
        text = template.read_text(encoding="utf-8")
        assert template.suffix == ".html", "others are not escaped"
        assert not re.search(r"\|\s*safe|autoescape|<script(?! defer src=)|\son\w+=|javascript:", text), (
            template
        )


@given(st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=6))
def test_no_candidate_commands_a_terminal_or_breaks_a_prediction(texts: list[str]) -> None:
    config = parse_label_config(SELECT)
    drawn = [
        Candidate(text=text, temperature=0.5, seed=1) for text in [*texts, f"{SCRIPT}\x1b[2J\x07\x9b\x00"]
    ]
    found = arrange(drawn, project_id=2, task_id=1, version="v0001", plan="p")
    assert not any(re.search(r"[\x00-\x1f\x7f-\x9f]", each.text) for each in found.candidates)
    assert any(each.text.startswith(SCRIPT) for each in found.candidates), "markup is text, and stays"
    assert check_prediction(config, render_prediction(config, found)) == []


def test_errors_on_a_terminal_do_not_command_it() -> None:
    assert plain("a\x1b[2J\x07\u202eb\nc é") == "a\ufffd[2J\ufffd\ufffdb\nc é"
    group = PlainErrors("x")

    @group.command()
    def fail() -> None:
        raise BadRequestError("title \x1b]0;owned\x07", todo="line\none")

    result = CliRunner().invoke(group, ["fail"])
    assert result.exit_code == 1
    assert "\x1b" not in result.output
    assert "\x07" not in result.output


def test_nobody_writes_lines_of_their_own_into_the_log(
    stranger: FlaskClient, connected: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for path in ("/predict%0aERROR all is lost", "/x%0d%0a%1b[31m", "/%e2%80%a8", "/" + "x" * 9000):
        assert stranger.get(path).status_code == 401
    lines = [record.getMessage() for record in caplog.records if record.name == "backend.app"]
    assert len(lines) == 4
    assert all(line.isprintable() and len(line) < 700 for line in lines)


# -- what runs code ------------------------------------------------------------------------------------------

#: Calls that turn data into code, or into objects of any kind.
FORBIDDEN = {
    *("eval", "exec", "compile", "__import__", "os.system", "os.popen", "torch.load", "joblib.load"),
    *("pickle.load", "pickle.loads", "marshal.loads", "shelve.open", "yaml.load", "yaml.unsafe_load"),
    *("tempfile.mktemp", "numpy.load", "torch.hub.load"),
}
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}


def calls(source: str) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def offences(source: str) -> list[str]:
    found = []
    for name, node in calls(source):
        options = {one.arg: ast.unparse(one.value) for one in node.keywords}
        if name in FORBIDDEN:
            found.append(name)
        if options.get("shell") == "True" or options.get("verify") == "False":
            found.append(f"{name} with {options}")
        if name.endswith("from_pretrained") and options.get("use_safetensors", "True") != "True":
            found.append(f"{name} of pickles")
        if options.get("trust_remote_code") == "True" or options.get("allow_pickle") == "True":
            found.append(f"{name} trusts")
    for node in ast.walk(ast.parse(source)):
        names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        found += [f"import {name}" for name in names if name.partition(".")[0] in MODULES]
    return found


@pytest.mark.parametrize(
    "bad",
    [
        "import pickle",
        "from pickle import loads",
        "torch.load(path)",
        "eval(text)",
        "subprocess.run(line, shell=True)",
        "httpx.Client(verify=False)",
        "AutoModel.from_pretrained(x, use_safetensors=False)",
        "AutoModel.from_pretrained(x, trust_remote_code=True)",
        "np.load(f, allow_pickle=True)",
    ],
)
def test_the_look_through_the_sources_finds(bad: str) -> None:
    assert offences(bad)


def test_no_data_is_run() -> None:
    files = [path for folder in SOURCES for path in folder.rglob("*.py")]
    assert len(files) > 100
    found = {path.name: bad for path in files if (bad := offences(path.read_text(encoding="utf-8")))}
    assert found == {}


def test_models_are_read_from_safetensors_alone() -> None:
    """Every AutoModel says so itself: transformers would take a pickle where nothing else is."""
    loaded = [
        node
        for folder in SOURCES
        for path in folder.rglob("*.py")
        for name, node in calls(path.read_text(encoding="utf-8"))
        if re.fullmatch(r"AutoModel\w*\.from_pretrained", name)
    ]
    assert len(loaded) >= 2
    for node in loaded:
        options = {one.arg: ast.unparse(one.value) for one in node.keywords}
        assert options["use_safetensors"] == "True"
