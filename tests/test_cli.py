"""The `illume` command: help that is checked in, plain errors, dry runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from conftest import SELECT
from test_doctor_findings import findings_table
from test_retrain import submitted

from backend.cli import main
from backend.service import Service
from backend.settings import Settings, load_settings
from illume_plugin.lineage import Source, said
from illume_plugin.registry import ADAPTER_FILES
from illume_plugin.store import judgements, lineage, projects, runs

HELP = Path(__file__).parents[1] / "docs" / "help.md"


def help_text() -> str:
    """docs/help.md as it should be: `python tests/test_cli.py` writes it."""
    parts = [
        "# The `illume` command and its settings\n",
        "Written by `python tests/test_cli.py`, checked by the tests.\n",
    ]
    for words in [[], *([name] for name in sorted(main.commands))]:
        shown = CliRunner().invoke(main, [*words, "--help"], prog_name="illume", terminal_width=100).output
        title = " ".join(["illume", *words])
        parts.append(f"## {title}\n\n```\n{shown.rstrip()}\n```\n")
    return "\n".join([*parts, findings_table(), settings_table()])


def settings_table() -> str:
    """Every setting with its default and meaning, from the code."""
    lines = ["## Settings", ""]
    lines += ["As `ILLUME_NAME` in the environment, or as `name` in `illume.toml`.", ""]
    lines += ["| name | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = ", ".join(map(str, field.default)) if isinstance(field.default, tuple) else field.default
        shown = "" if default in ("", None) else f"`{default}`"
        lines.append(f"| `{name}` | {shown} | {field.description} |")
    return "\n".join(lines) + "\n"


def test_the_help_in_the_docs_is_the_help_of_the_command() -> None:
    assert HELP.read_text(encoding="utf-8") == help_text(), "run: python tests/test_cli.py"


@pytest.mark.parametrize("name", sorted(main.commands))
def test_every_command_has_examples(name: str) -> None:
    assert "Example" in (main.commands[name].help or "")


def test_help_loads_neither_torch_nor_flask() -> None:
    code = (
        "import sys\nfrom backend.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "assert not {'torch', 'flask', 'transformers', 'label_studio_sdk', 'sqlalchemy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)


@pytest.fixture
def data_dir(tmp_path: Path, _migrated: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with project 2 connected and 20 tasks judged, used through ILLUME_DATA_DIR."""
    monkeypatch.setenv("ILLUME_DATA_DIR", str(tmp_path / "data"))
    service = Service(load_settings())
    with service.store.write() as conn:
        projects.put(conn, 2, title="test", label_config=SELECT, now=1.0)
    for task_id in range(1, 21):
        service.receive(submitted(task_id, [("c1", "c2")[task_id % 2]]))
    service.close()
    return tmp_path / "data"


def illume(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def test_errors_are_plain_sentences_without_traceback(data_dir: Path) -> None:
    result = illume("promote", "v0009")
    assert result.exit_code == 1
    assert "v0009" in result.output
    assert "Traceback" not in result.output
    assert "../../etc" in illume("promote", "../../etc").output


def test_wrong_settings_are_all_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ILLUME_PORT", "0")
    monkeypatch.setenv("ILLUME_SAMPLES", "many")
    result = illume("runs")
    assert result.exit_code == 1
    assert "ILLUME_PORT" in result.output
    assert "ILLUME_SAMPLES" in result.output


def test_without_a_project_it_says_how_to_connect_one(tmp_path: Path) -> None:
    result = illume("train")
    assert result.exit_code == 1
    assert "illume connect --project N" in result.output


def test_an_unknown_project(data_dir: Path) -> None:
    assert "Project 9 is not connected" in illume("versions", "--project", "9").output


def test_a_dry_run_of_training_starts_nothing(data_dir: Path) -> None:
    result = illume("train", "--dry-run")
    assert result.exit_code == 0, result.output
    assert "accepted rationales" in result.output
    assert "No run yet" in illume("runs").output


def test_a_dry_run_of_sampling_says_how_many(data_dir: Path) -> None:
    service = Service(load_settings())
    with service.store.write() as conn:
        projects.put_tasks(
            conn, 2, [(i, {"image": "a", "question": "q", "answer": "b"}) for i in range(21, 26)]
        )
    service.close()
    assert "5 tasks lack candidates of v0000" in illume("presample", "--dry-run").output


def test_runs_shows_why_a_run_failed_and_cancel_ends_one(data_dir: Path) -> None:
    service = Service(load_settings())
    run, _ = service.request_training(2, trigger="somebody")
    service.close()
    assert "cancelled" in illume("cancel", str(run.run_id)).output
    listed = illume("runs").output
    assert "cancelled" in listed
    assert "somebody" in listed
    again = illume("cancel", str(run.run_id))
    assert again.exit_code == 1
    assert "is over" in again.output


def test_versions_promote_and_rollback(data_dir: Path) -> None:
    assert "v0000  *serves*" in illume("versions").output
    result = illume("rollback")
    assert result.exit_code == 1
    assert "nothing to go back to" in result.output
    assert "v0000 serves project 2 now" in illume("promote", "v0000").output


@pytest.fixture
def published(data_dir: Path, tmp_path: Path) -> Path:
    """v0001, which the gate let through and run 1 made from annotation 101, and v0002, which it holds."""
    staged = tmp_path / "staged"
    staged.mkdir()
    for name in ADAPTER_FILES:
        (staged / name).write_text("{}")
    service = Service(load_settings())
    service.apply_events()
    for number, verdict in enumerate(["promote", "hold"], start=1):
        metric = {"value": 0.8, "low": 0.7, "high": 0.9, "n": 40, "higher_is_better": True}
        service.registry.publish(
            2,
            staged,
            parent=f"v000{number - 1}",
            base_model="embedded",
            base_model_hash="",
            training_set="set",
            config={"run_id": number},
            seed=0,
            metrics={"gate": verdict, "challenger": {"preference_accuracy": metric}},
            versions={},
        )
    with service.store.write() as conn:
        digests = judgements.digests(conn, 2)
        held = judgements.preferences_of_annotations(conn, 2, [101])
        source = Source(101, 1, 7, digests[101], said(held[101]), held_out=False)
        lineage.keep(conn, 1, 2, [source])
    service.close()
    return data_dir


def test_promoting_against_the_gate_needs_a_reason(published: Path) -> None:
    for refused in (illume("promote", "v0002"), illume("promote", "v0002", "--dry-run")):
        assert refused.exit_code == 1
        assert "The gate holds v0002 back" in refused.output
    assert "v0002 serves project 2 now" in illume("promote", "v0002", "--reason", "it is shorter").output
    assert ": it is shorter" in illume("versions").output
    assert "v0000 serves project 2 again" in illume("rollback").output


def test_versions_as_json(published: Path) -> None:
    found = json.loads(illume("versions", "--json").output)
    assert (found["project"], found["active"]) == (2, "v0000")
    assert [(one["version"], one["state"], one["gate"]) for one in found["versions"]] == [
        ("v0001", "ready", "promote"),
        ("v0002", "ready", "hold"),
    ]
    assert found["versions"][0]["meta"]["metrics"]["challenger"]["preference_accuracy"]["n"] == 40


def test_lineage_both_ways(published: Path) -> None:
    told = illume("lineage", "v0002").output
    assert "learnt from 1 annotations of 1 tasks" in told
    assert "person 7: 1" in told
    told = illume("lineage", "--annotation", "101").output.splitlines()
    assert told == ["v0001  learnt from it", "v0002  goes back to v0001, which learnt from it"]
    assert (
        "No version of project 2 learnt from annotation 102"
        in illume("lineage", "--annotation", "102").output
    )
    assert illume("lineage").exit_code == 1
    assert illume("lineage", "v0001", "--annotation", "101").exit_code == 1
    as_json = json.loads(illume("lineage", "v0001", "--json").output)
    assert [source["annotation_id"] for source in as_json["line"][0]["sources"]] == [101]


def test_what_is_deleted_is_shown_with_what_to_do(published: Path) -> None:
    service = Service(load_settings())
    with service.store.write() as conn:
        judgements.delete(conn, 2, 101)
    service.switch(2, "v0002", reason="test")
    service.close()
    told = illume("versions").output
    assert told.count("learnt from 1 annotations that were deleted") == 2
    assert "illume train --without-deleted" in told
    assert "annotation 101 was deleted" in illume("lineage", "v0002").output
    assert "It would go on from v0000." in illume("train", "--dry-run", "--without-deleted").output


def test_a_live_run_of_the_other_kind_is_no_answer(data_dir: Path) -> None:
    service = Service(load_settings())
    service.request_training(2, trigger="somebody")
    service.close()
    refused = illume("train", "--without-deleted")
    assert refused.exit_code == 1
    assert "illume cancel 1" in refused.output


def test_retire_and_gc(published: Path) -> None:
    assert "is retired" in illume("retire", "v0001", "--reason", "wrong folder").output
    assert "wrong folder" in illume("promote", "v0001").output
    assert "may serve again" in illume("retire", "v0001", "--undo").output
    assert "v0001 (--dry-run)" in illume("gc", "--keep", "1", "--dry-run").output
    assert "Removed the weights of: v0001." in illume("gc", "--keep", "1").output
    assert "v0001  removed" in illume("versions").output
    assert "Removed the weights of: nothing." in illume("gc", "--keep", "1").output


def test_connect_needs_a_token_and_says_where_to_get_one(data_dir: Path) -> None:
    result = illume("connect", "--project", "2")
    assert result.exit_code == 1
    assert "Personal Access Token" in result.output


def test_doctor_without_backend_and_token(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ILLUME_BACKEND_URL", "http://127.0.0.1:9")
    result = illume("doctor", "--skip-model")
    assert result.exit_code == 1
    assert "nothing answers at http://127.0.0.1:9/health" in result.output
    assert "ILLUME_LABEL_STUDIO_TOKEN" in result.output


def test_a_queued_run_is_followed_until_it_ends(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import backend.cli.run

    def cancel_instead_of_waiting(_: float) -> None:
        service = Service(load_settings())
        with service.store.write() as conn:
            live = runs.live_run(conn, 2)
            if live:
                runs.request_cancel(conn, live.run_id, now=1.0)
        service.close()

    monkeypatch.setattr(backend.cli.run.time, "sleep", cancel_instead_of_waiting)
    result = illume("train")
    assert result.exit_code == 1
    assert "cancelled" in result.output


if __name__ == "__main__":
    HELP.write_text(help_text(), encoding="utf-8")
