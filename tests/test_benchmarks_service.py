"""The benchmarks of the service, at toy size, and what they say of given measurements. No torch here."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import catch_up_work
import pytest
import service
import service_setting
import speed_page
import training_set_work
import webhook_work
from catch_up_work import Repeat, Sizes
from click import BadParameter
from figures import figure, in_turns, line, quantile, reached
from http_load import Answer, Client, request, under_load
from small_labelstudio import TOKEN, SmallLabelStudio

from backend.reconcile import Round
from backend.service import Service
from illume_plugin.labelstudio import LabelStudio
from illume_plugin.preferences import observe
from illume_plugin.store.intake import Found


def test_names_of_figures_are_checked() -> None:
    assert service.chosen("P5, P9") == ["P5", "P9"]
    with pytest.raises(BadParameter, match="P1; there are P4"):
        service.chosen("P5,P1")
    with pytest.raises(BadParameter, match="nothing"):
        service.chosen(" , ")


@pytest.mark.parametrize(
    ("values", "share", "found"),
    [
        ([5.0], 0.99, 5.0),
        ([1.0, 2.0], 0.5, 1.0),
        (list(range(1, 101)), 0.99, 99),
        (list(range(1, 102)), 0.99, 100),
    ],
)
def test_a_quantile_is_one_of_the_values(values: list[float], share: float, found: float) -> None:
    assert quantile(values[::-1], share) == found


def test_turns_change_who_goes_first_and_the_first_is_not_counted() -> None:
    order: list[str] = []

    def peer() -> int:
        order.append("peer")
        return len(order)

    def ours() -> int:
        order.append("ours")
        return len(order)

    assert in_turns(peer, ours, 2) == ([3, 6], [4, 5])
    assert order == ["ours", "peer", "peer", "ours", "ours", "peer"]


# -- clients ---------------------------------------------------------------------------------------------


class Echo(BaseHTTPRequestHandler):
    """Answers with the number of the request; refuses what is not welcome."""

    protocol_version = "HTTP/1.1"
    seen: list[tuple[str, bytes]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.seen.append((self.path, body))
        answer = b"x" * 70_000  # more than a client takes at a time
        self.send_response(200 if self.path == "/welcome" else 409)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def echo() -> Iterator[tuple[int, list[tuple[str, bytes]]]]:
    handler = type("Handler", (Echo,), {"seen": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server.server_port, handler.seen
    server.shutdown()
    thread.join()
    server.server_close()


def test_clients_send_all_they_have_and_note_every_answer(echo: tuple[int, list[tuple[str, bytes]]]) -> None:
    port, seen = echo
    clients = [
        Client("good", iter([request("POST", "/welcome", {"n": n}) for n in range(20)])),
        Client("good", iter([request("POST", "/welcome", {"n": n}) for n in range(20, 30)])),
        Client("bad", iter([request("POST", "/other", {})])),
    ]
    found = under_load(port, clients, seconds=60)
    assert [answer.status for answer in found["bad"]] == [409]
    assert [answer.status for answer in found["good"]] == [200] * 30
    assert sorted(json.loads(body)["n"] for path, body in seen if path == "/welcome") == list(range(30))
    assert all(0 <= answer.begin <= answer.end for answer in found["good"])


def test_clients_keep_their_rhythm_and_end_in_time(echo: tuple[int, list[tuple[str, bytes]]]) -> None:
    port, _ = echo
    often = Client("often", itertools.repeat(request("POST", "/welcome", {})))
    rarely = Client("rarely", itertools.repeat(request("POST", "/welcome", {})), every_s=0.1)
    found = under_load(port, [often, rarely], seconds=0.35)
    assert 1 <= len(found["rarely"]) <= 4
    begins = [answer.begin for answer in found["rarely"]]
    assert all(b - a >= 0.1 for a, b in itertools.pairwise(begins))
    assert found["often"]


def test_a_server_that_hangs_up_is_no_measurement() -> None:
    class Mute(Echo):
        def do_POST(self) -> None:
            self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Mute)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    with pytest.raises(RuntimeError, match="closed a connection of one"):
        under_load(server.server_port, [Client("one", iter([request("POST", "/", {})]))], seconds=30)
    server.shutdown()
    thread.join()
    server.server_close()


# -- P5 --------------------------------------------------------------------------------------------------


def test_events_of_the_storm_are_what_label_studio_sends() -> None:
    seen = observe(webhook_work.event(7))
    assert len(json.dumps(webhook_work.event(7))) > 3000
    assert len(seen) == 2
    assert webhook_work.event(7) != webhook_work.event(8)


def test_figures_of_a_storm() -> None:
    def window(ms: float) -> webhook_work.Window:
        answers = [Answer(0.0, ms / 1000, 201)] * 98 + [Answer(0.0, 2 * ms / 1000, 201)] * 2
        return webhook_work.Window(answers)

    found = webhook_work.figures([window(10), window(20), window(40)], [window(5)] * 3)
    assert found["P5"]["median"] == pytest.approx(100 / 0.040)
    assert found["P5_p99"]["median"] == pytest.approx(40)
    assert reached(found["P5"])
    assert reached(found["P5_p99"])
    assert "stored durably" in found["P5"]["detail"]["what"]


@pytest.mark.torch
def test_a_storm_on_a_real_backend_is_stored(tmp_path: Path) -> None:
    with webhook_work._ours(tmp_path / "ours") as ours:
        window = ours.storm(0.3)
    assert window.kept == len(window.answers) > 0


# -- P4 --------------------------------------------------------------------------------------------------


@pytest.mark.torch
@pytest.mark.timeout(900)
def test_stored_candidates_are_asked_for_while_a_run_is_on(monkeypatch: pytest.MonkeyPatch) -> None:
    import predict_work

    monkeypatch.setattr(predict_work, "STORED", 200)
    monkeypatch.setattr(predict_work, "JUDGED", 40)
    found = predict_work.measure(service_setting.ServiceSetting(1, 0.5, quick=True))
    assert set(found) == {"P4", "P4_health", "P4_setup"}
    detail = found["P4"]["detail"]
    assert detail["calls"] > 0
    assert all(steps > 0 for steps in detail["steps_meanwhile"])
    assert len(detail["peer_p99_ms"]) == 1


# -- P7 --------------------------------------------------------------------------------------------------


def test_figures_of_catching_up() -> None:
    def done(seconds: float) -> Round:
        return Round(Found(new_annotations=10), True, 3, seconds)

    repeats = [Repeat(done(2.0), done(1.0), done(0.1), 8.0)] * 3
    found = catch_up_work.figures(repeats, Sizes(), 100.0, 10.0)
    assert found["P7"]["median"] == 4.0
    assert found["P7_growth"]["median"] == 2.0
    assert reached(found["P7_growth"])
    assert "1,000 changes in 100,000 tasks" in found["P7"]["detail"]["what"]


def test_what_is_annotated_while_the_listener_is_down_is_caught_up_with(service: Service) -> None:
    studio = SmallLabelStudio()
    with studio.running():
        project = studio.add(studio.projects, title="catch up", label_config="")
        made = [
            studio.add(
                studio.tasks, project=project["id"], data=catch_up_work.task(n), updated_at=studio.time()
            )
            for n in range(5)
        ]
        with LabelStudio(studio.url, TOKEN) as door:
            one = catch_up_work.Project(service, door, project["id"], [])
            studio.annotate(made[0]["id"], result=catch_up_work.result(0))
            assert one.round().found.new_annotations == 1


# -- P9 --------------------------------------------------------------------------------------------------


def test_a_store_is_filled_and_learnt_from_in_a_process_of_its_own(tmp_path: Path) -> None:
    training_set_work.fill(tmp_path / "data", 400)
    found = training_set_work.in_a_process(tmp_path / "data")
    assert found["sources"] == 40
    assert found["records"] > 100
    assert found["seconds"] > 0
    assert found["mib"] < training_set_work.GOAL_MIB


def test_figures_of_the_training_set() -> None:
    whole, part = {"seconds": 40.0, "mib": 900.0, "records": 7}, {"seconds": 8.0, "mib": 300.0, "records": 3}
    found = training_set_work.figures([whole] * 3, [part] * 3, 1_000_000, 250_000)
    medians = {name: one["median"] for name, one in found.items()}
    assert medians == pytest.approx({"P9": 40.0, "P9_memory": 900.0, "P9_growth": 1.25})
    assert all(map(reached, found.values()))


# -- all -------------------------------------------------------------------------------------------------


def test_what_was_measured_is_told_written_and_put_on_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from click.testing import CliRunner

    def measure(setting: service_setting.ServiceSetting) -> dict[str, Any]:
        detail = {"what": "events stored", "told": "so quick" if setting.quick else ""}
        return {"P5": figure([1500.0, 1200.0], goal=1000, detail=detail)}

    monkeypatch.setitem(service.FIGURES, "P5", measure)
    out = tmp_path / "results" / "service.json"
    done = CliRunner().invoke(service.main, ["--quick", "--only", "P5", "--json", str(out)])
    assert done.exit_code == 0, done.output
    assert "1350.00" in done.output
    assert "so quick" in done.output
    page = speed_page.written([out])
    assert "| P5 | events stored (quick: less of it) | 1,350 (1,200 to 1,500, 2) | ≥ 1000 | yes |" in page
    assert "cores" in page
    assert "AMX" not in page
    assert line("P5", json.loads(out.read_text())["P5"]).startswith("P5")
