"""The `illume` command: help that is checked in, plain errors, dry runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from conftest import SELECT
from test_retrain import submitted

from backend.cli import main
from backend.service import Service
from backend.settings import Settings, load_settings
from illume_plugin.store import projects, runs

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
    return "\n".join([*parts, settings_table()])


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
        service.receive(submitted(task_id, ["c1"]))
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
