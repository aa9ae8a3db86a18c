"""The list of what the doctor can find: told in docs/help.md, looked for by the code, broken by a test."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from examined import the

from backend.cli import main
from backend.doctor import Check, Finding, Outcome
from backend.doctor.checks import found, good
from illume_plugin.types import BASE_VERSION

ROOT = Path(__file__).parents[1]
LOOKS = {
    path: path.read_text(encoding="utf-8")
    for path in (ROOT / "backend/doctor").glob("*.py")
    if path.name != "findings.py"
}
TESTS = {
    path: path.read_text(encoding="utf-8")
    for path in [*(ROOT / "tests").glob("test_doctor*.py"), ROOT / "tests/live/test_doctor_live.py"]
}


def findings_table() -> str:
    """Everything that `illume doctor` can find, for docs/help.md."""
    lines = ["## What `illume doctor` finds", ""]
    lines += ["The name is in the output, and as `finding` in `illume doctor --json`.", ""]
    lines += ["| finding | | why it matters | what mends it |", "|---|---|---|---|"]
    for one in Finding:
        lines.append(f"| {one.label} | {one.outcome.value} | {one.why} | {one.mend} |")
    return "\n".join(lines) + "\n"


def test_the_docs_list_what_the_code_can_find() -> None:
    page = (ROOT / "docs/help.md").read_text(encoding="utf-8")
    told = re.findall(r"^\| ([^|`]+) \| (?:failed|warning) \|", page, flags=re.MULTILINE)
    assert sorted(told) == sorted(one.label for one in Finding), "run: python tests/test_cli.py"


@pytest.mark.parametrize("finding", Finding, ids=lambda one: one.name)
def test_every_finding_is_looked_for_and_broken_by_a_test(finding: Finding) -> None:
    name = re.compile(rf"\bFinding\.{finding.name}\b")
    assert any(name.search(code) for code in LOOKS.values()), "nothing looks for it"
    assert any(name.search(code) for code in TESTS.values()), "no test breaks it"


@pytest.mark.parametrize("finding", Finding, ids=lambda one: one.name)
def test_every_finding_says_why_and_what_to_do(finding: Finding) -> None:
    assert finding.outcome is not Outcome.OK
    assert finding.why.endswith(".")
    assert len(finding.mend) > 10
    assert "|" not in finding.label + finding.why + finding.mend, "it would break the table"


def test_the_command_names_the_project_that_it_is_about() -> None:
    check = found("project 12: prelabel", Finding.PRELABEL_OFF, "off", project=12)
    assert check.todo.startswith("illume connect --project 12 ")
    assert the([check, good("token", "fine")], Finding.PRELABEL_OFF) is check


def test_a_check_as_json() -> None:
    check = found("token", Finding.TOKEN_MISSING, "none is set", todo="set it")
    assert check.to_json() == {
        "check": "token",
        "outcome": "failed",
        "finding": "token missing",
        "detail": "none is set",
        "why": Finding.TOKEN_MISSING.why,
        "todo": "set it",
    }
    assert good("token", "fine").to_json()["finding"] is None


# -- the command ---------------------------------------------------------------------------------------


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[Check]:
    """What the examination is to say."""
    checks: list[Check] = []
    monkeypatch.setattr("backend.doctor.examine", lambda *_, **__: iter(checks))
    return checks


GOOD = good("token", "belongs to lead@example.com")
WARNING = found("project 1: pushing", Finding.PUSH_SLOW, "100000 tasks")
FAILED = found("project 1: prelabel", Finding.PRELABEL_OFF, "it is \x1b[31moff", project=1)


@pytest.mark.parametrize(
    ("checks", "code"), [([GOOD], 0), ([GOOD, WARNING], 0), ([GOOD, WARNING, FAILED], 1), ([FAILED], 1)]
)
def test_its_exit_code(said: list[Check], checks: list[Check], code: int) -> None:
    said.extend(checks)
    told = CliRunner().invoke(main, ["doctor"])
    as_json = CliRunner().invoke(main, ["doctor", "--json"])
    assert (told.exit_code, as_json.exit_code) == (code, code)
    document = json.loads(as_json.stdout)
    assert document["ok"] is (code == 0)
    assert [one["check"] for one in document["checks"]] == [check.name for check in checks]


def test_what_it_prints(said: list[Check]) -> None:
    said.extend([GOOD, WARNING, FAILED])
    lines = CliRunner().invoke(main, ["doctor"]).stdout.splitlines()
    assert lines[0] == "ok       token: belongs to lead@example.com"
    assert lines[1] == "warning  project 1: pushing: 100000 tasks"
    assert lines[2].strip().startswith("slow bulk endpoint: ")
    assert lines[3].strip().startswith("-> start Label Studio with fflag_")
    assert lines[4].startswith("FAILED   project 1: prelabel: it is \N{REPLACEMENT CHARACTER}[31moff")
    assert lines[6].strip().startswith("-> illume connect --project 1")


def test_all_well(said: list[Check]) -> None:
    said.append(GOOD)
    assert CliRunner().invoke(main, ["doctor"]).output.endswith("Everything needed works.\n")
    said.append(WARNING)
    assert "Everything needed works. (1 warnings)" in CliRunner().invoke(main, ["doctor"]).output


def test_it_says_what_keeps_it_from_starting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ILLUME_SAMPLES", "many")
    result = CliRunner().invoke(main, ["doctor", "--json"])
    assert result.exit_code == 1
    (check,) = json.loads(result.stdout)["checks"]
    assert check["finding"] == "settings wrong"
    assert "ILLUME_SAMPLES='many'" in check["detail"]


def test_an_unknown_project_is_a_plain_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ILLUME_DATA_DIR", str(tmp_path / "data"))
    result = CliRunner().invoke(main, ["doctor", "--project", "9", "--skip-model"])
    assert result.exit_code == 1
    assert "illume connect --project 9" in result.output


def test_the_base_version_in_the_advice_is_ours() -> None:
    assert f"illume promote {BASE_VERSION} " in Finding.ADAPTER_FOREIGN.mend
