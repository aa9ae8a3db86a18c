"""What the quality benchmark says of given outcomes, and the page that is written from it."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import claims
import pytest
import quality
import quality_page
from claims import ARMS, Outcome
from click.testing import CliRunner

from backend.simulate import Measurement
from illume_plugin.intervals import of_mean
from illume_plugin.types import Metric


def measured(
    fit: float, *, answers: float = 1.0, distinct: float = 1.0, version: str = "v0001"
) -> Measurement:
    def metric(value: float) -> Metric:
        return Metric(value, value - 0.01, value + 0.01, 10)

    kinds = {kind: {"fit_rate": metric(fit), "answer_accuracy": metric(answers)} for kind in ("at", "count")}
    return Measurement(version, metric(fit), metric(fit), metric(answers), metric(distinct), {}, kinds)


def outcome(arm: str, seed: int, *fits: float, ended: str = "", **last: Any) -> Outcome:
    curve = [measured(fit, version="v0000") for fit in fits[:-1]] + [measured(fits[-1], **last)]
    return Outcome(arm, seed, curve, ended, 60.0, 100)


def everything(seed: int) -> dict[str, dict[int, Outcome]]:
    ended = "no fitting candidates: nobody ticked anything"
    found = {arm: {seed: outcome(arm, seed, 0.3, 0.8)} for arm in ARMS}
    found["supervised-all"] = {seed: outcome("supervised-all", seed, 0.9)}
    found["no-signal"] = {seed: outcome("no-signal", seed, 0.0, 0.0, version="v0000", ended=ended)}
    return found


def test_figures_follow_from_the_outcomes() -> None:
    found = everything(0)
    found["loop"] = {0: outcome("loop", 0, 0.3, 0.6, 0.81, answers=0.98, distinct=0.8)}
    values = {name: one["median"] for name, one in quality.figures(found).items()}
    assert values == pytest.approx(
        {
            "Q1": 0.81, "Q1_base": 0.3, "Q1_answers": -0.02, "Q1_distinct": 0.8, "Q2": 0.9,
            "Q2_matched": 0.01, "Q2_tenth": 0.01, "Q4_noise-10": 0.5, "Q4_noise-20": 0.5,
            "Q4_agreement": 0.0, "control": 1.0,
            "Q3_with-dpo": 0.0, "Q3_with-kto": 0.0, "Q3_with-dress": 0.0, "Q3_with-contrast": 0.0,
            "Q3_with-all": 0.0, "Q3_with-csr": 0.0, "Q3_without-csr": 0.0, "Q3_csr": 0.0,
        }
    )  # fmt: skip


@pytest.mark.parametrize(
    ("ended", "version"), [("", "v0000"), ("no fitting candidates: it says nothing", "v0001")]
)
def test_the_control_wants_plain_words_and_no_adapter(ended: str, version: str) -> None:
    found = everything(0)
    found["no-signal"] = {0: outcome("no-signal", 0, 0.0, 0.0, ended=ended, version=version)}
    assert quality.figures(found)["control"]["median"] == 0.0


def test_a_figure_takes_the_seeds_for_which_all_its_arms_are_done() -> None:
    found = everything(0)
    found["loop"][1] = outcome("loop", 1, 0.3, 0.7)
    figures = quality.figures(found)
    assert figures["Q1"]["n"] == 2
    assert figures["Q1"]["detail"]["mean"] == pytest.approx(0.75)
    assert figures["Q2"]["n"] == 1
    assert figures["Q2"]["detail"]["low"] is None


def test_figures_of_no_finished_arm_are_left_out() -> None:
    assert quality.figures({"loop": {0: outcome("loop", 0, 0.3, 0.7)}}).keys() == {
        "Q1", "Q1_base", "Q1_answers", "Q1_distinct",
    }  # fmt: skip


def test_the_table_says_what_was_not_reached() -> None:
    lines = quality.table(quality.figures(everything(0))).splitlines()
    assert [line.split()[0] for line in lines if " NO " in line] == ["Q1", "Q2"]


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
def test_the_page_is_written_from_the_json_alone(tmp_path: Path, seeds: tuple[int, ...]) -> None:
    found: dict[str, dict[int, Outcome]] = {arm: {} for arm in ARMS}
    for seed in seeds:
        for arm, of_arm in everything(seed).items():
            found[arm] |= of_arm
    written = tmp_path / "figures.json"
    written.write_text(json.dumps(quality.report("small", found), allow_nan=False))
    done = CliRunner().invoke(quality_page.main, [str(written), "--out", str(tmp_path / "docs")])
    assert done.exit_code == 0, done.output
    page = (tmp_path / "docs" / "results.md").read_text()
    assert "Not reached: held-out fit rate at T = 0.7 after the loop (Q1); fit rate, share of" in page
    assert page.count("no fitting candidates") == len(seeds)
    assert all(words in page for words in quality_page.ARMS.values())
    assert "nan" not in page
    assert (tmp_path / "docs" / "results-small.svg").read_text().startswith("<svg")


def test_objectives_have_a_chapter_and_a_picture_of_their_own(tmp_path: Path) -> None:
    arms = {arm: found for arm, found in everything(0).items() if arm in claims.OBJECTIVES}
    files = [tmp_path / "all.json", tmp_path / "objectives.json"]
    for path, found in zip(files, [everything(0), arms], strict=True):
        path.write_text(json.dumps(quality.report("small", found), allow_nan=False))
    done = CliRunner().invoke(quality_page.main, [*map(str, files), "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    page = (tmp_path / "results.md").read_text()
    assert [line for line in page.splitlines() if line.startswith("## ")] == [
        "## Size `small`", "## Size `small`, objectives",
    ]  # fmt: skip
    assert "the same and DPO" in page.split("objectives")[1]
    assert "+ DPO" in (tmp_path / "results-small-objectives.svg").read_text()
    assert "+ DPO" not in (tmp_path / "results-small.svg").read_text()


def test_every_arm_differs_from_the_loop_in_what_its_name_says() -> None:
    loop = claims.options_of("loop", claims.FULL, 3)
    assert loop.seed == 3
    differ = {
        arm: {
            name
            for name, value in claims.options_of(arm, claims.FULL, 3).to_json().items()
            if value != loop.to_json()[name]
        }
        for arm in ARMS
    }
    assert differ["noise-10"] == differ["noise-20"] == {"noise"}
    assert differ["majority"] - differ["agreement"] == {"weigh_agreement"}
    assert differ["no-signal"] == {"world"}
    assert differ["supervised-all"] == {"train"}
    assert differ["with-csr"] == differ["without-csr"] == {"train", "unjudged"}
    csr, without = (claims.options_of(arm, claims.FULL, 3) for arm in claims.CSR)
    assert csr.unjudged == loop.tasks * loop.iterations
    assert csr.train_config().objectives == replace(without.train_config().objectives, self_reward=True)


def test_the_mean_of_seeds_has_students_interval() -> None:
    # 2.776 * sqrt(0.025 / 5), by hand
    metric = of_mean([0.1, 0.2, 0.3, 0.4, 0.5])
    half = 2.776 * math.sqrt(0.025) / math.sqrt(5)
    assert (metric.value, metric.low, metric.high) == pytest.approx((0.3, 0.3 - half, 0.3 + half))


@pytest.mark.parametrize(("n", "quantile"), [(12, 2.201), (21, 2.086), (121, 1.980)])
def test_students_quantile_beyond_the_table(n: int, quantile: float) -> None:
    values = [float(i % 2) for i in range(n)]
    metric = of_mean(values)
    sd = math.sqrt(sum((v - metric.value) ** 2 for v in values) / (n - 1))
    assert (metric.high - metric.value) / sd * math.sqrt(n) == pytest.approx(quantile, abs=0.003)
