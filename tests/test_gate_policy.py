"""The gate's policy file: what it may say, and what it is told when it says something else."""

from dataclasses import fields
from pathlib import Path

import pytest

from backend.settings import Settings, load_settings
from illume_plugin.errors import SettingsError
from illume_plugin.gate_policy import BlindPolicy, GatePolicy, parse_policy

EVIDENCE = Path(__file__).parents[1] / "docs" / "evidence.md"


def test_an_empty_policy_is_the_default() -> None:
    assert parse_policy("") == GatePolicy()


def test_what_is_named_differs_and_the_rest_stays() -> None:
    policy = parse_policy("least_items = 20\nabove_chance = false\nanswer_drop = 0\n")
    assert policy == GatePolicy(least_items=20, above_chance=False, answer_drop=0)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("alpha = 2", "alpha of the gate policy is 2; it must be a number from 0 to 1."),
        ("alpha = nan", "alpha of the gate policy is nan"),
        ("alpha = true", "alpha of the gate policy is True; it must be a number"),
        ('alpha = "0.05"', "alpha of the gate policy is '0.05'"),
        (
            "least_items = 2.5",
            "least_items of the gate policy is 2.5; it must be a whole number, at least 0.",
        ),
        ("least_items = -1", "least_items of the gate policy is -1"),
        ("least_items = true", "least_items of the gate policy is True"),
        ("above_chance = 1", "above_chance of the gate policy is 1; it must be true or false."),
        ("least_item = 3", "The gate has no limit 'least_item'."),
        ("alpha", "not TOML"),
    ],
)
def test_a_wrong_line_is_named_with_its_value(line: str, told: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_policy(line)
    assert told in str(caught.value)


def test_all_wrong_lines_are_named_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        parse_policy("alpha = 2\nbeta = 3\n")
    assert "alpha" in caught.value.what
    assert "beta" in caught.value.what


def test_every_limit_is_in_the_docs() -> None:
    text = EVIDENCE.read_text(encoding="utf-8")
    for limit in (*fields(GatePolicy), *fields(BlindPolicy)):
        if limit.name == "blind":
            continue  # the table that the second ones are in
        default = str(limit.default).lower() if isinstance(limit.default, bool) else str(limit.default)
        assert f"| `{limit.name}` | `{default}` |" in text


def test_the_setting_names_the_file(settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "gate.toml"
    path.write_text("least_items = 7\n", encoding="utf-8")
    assert settings.gate_limits() == GatePolicy()
    assert load_settings(gate_policy=path).gate_limits().least_items == 7


def test_a_policy_file_that_is_not_there_is_an_error_of_the_settings(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="ILLUME_GATE_POLICY"):
        load_settings(gate_policy=tmp_path / "none.toml").gate_limits()
