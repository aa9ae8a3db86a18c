"""Settings: where they come from, what is said when they are wrong, and how the secret is kept."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from backend.settings import load_settings
from illume_plugin.errors import SettingsError


def test_environment_beats_file_beats_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "illume.toml").write_text('port = 7001\nsamples = 3\nbase_model = "x"\n')
    monkeypatch.setenv("ILLUME_PORT", "7002")
    settings = load_settings(base_model="y")
    assert (settings.port, settings.samples, settings.base_model, settings.train_after) == (7002, 3, "y", 50)


def test_another_file_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "other.toml").write_text("port = 7003\n")
    monkeypatch.setenv("ILLUME_CONFIG", str(tmp_path / "other.toml"))
    assert load_settings().port == 7003
    monkeypatch.setenv("ILLUME_CONFIG", str(tmp_path / "nowhere.toml"))
    with pytest.raises(SettingsError, match="nowhere"):
        load_settings()


def test_lists_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ILLUME_TEMPERATURES", "0.1, 0.5,1")
    monkeypatch.setenv("ILLUME_ALLOWED_IMAGE_HOSTS", "a.example,b.example")
    settings = load_settings()
    assert settings.temperatures == (0.1, 0.5, 1.0)
    assert settings.allowed_image_hosts == ("a.example", "b.example")


def test_wordings_are_separated_by_bars_because_questions_hold_commas(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ILLUME_SUFFIXES", "Why, do you think? | How do you know?")
    assert load_settings().suffixes == ("Why, do you think?", "How do you know?")
    assert load_settings(suffixes=["a|b"]).suffixes == ("a|b",)


def test_a_strategy_that_is_none_is_named_with_those_that_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ILLUME_STRATEGY", "beam")
    with pytest.raises(SettingsError, match=r"ILLUME_STRATEGY='beam'.*'sample' or 'sentence_search'"):
        load_settings()


def test_every_mistake_is_named_at_once_with_its_value_but_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = {"PORT": "99999", "TEMPERATURES": "warm", "LABEL_STUDIO_URL": "somewhere", "DATABASE_URL": "pw"}
    for name, value in wrong.items():
        monkeypatch.setenv(f"ILLUME_{name}", value)
    monkeypatch.setenv("ILLUME_SECRET", "hush")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    text = str(caught.value)
    for part in ("ILLUME_PORT='99999'", "warm", "somewhere"):
        assert part in text
    assert "hush" not in text


@pytest.mark.parametrize(("text", "part"), [("port = \n", "not TOML"), ("prot = 1\n", "prot")])
def test_mistakes_in_the_file(tmp_path: Path, text: str, part: str) -> None:
    (tmp_path / "illume.toml").write_text(text)
    with pytest.raises(SettingsError, match=part):
        load_settings()


def test_the_secret_is_made_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path / "data")
    with ThreadPoolExecutor(8) as pool:
        secrets = set(pool.map(lambda _: settings.shared_secret(), range(32)))
    assert len(secrets) == 1
    assert len(secrets.pop()) >= 32
    (kept,) = (tmp_path / "data").iterdir()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


def test_a_given_secret_is_not_written_down(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path / "data", secret="hush-hush-hush-hush")
    assert settings.shared_secret() == "hush-hush-hush-hush"
    assert not (tmp_path / "data").exists()
    assert "hush-hush" not in repr(settings)


def test_without_a_token_it_says_where_to_get_one() -> None:
    with pytest.raises(SettingsError, match="Personal Access Token"):
        load_settings().token()


def test_how_runs_train_comes_from_the_file_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "illume.toml").write_text("[train]\nepochs = 3\n[train.objectives]\ndpo = 0.5\nkto = 1\n")
    config = load_settings().train_config()
    assert (config.epochs, config.objectives.dpo, config.objectives.kto) == (3, 0.5, 1)
    assert config.objectives.illume == 1, "what is left out has its default"
    assert load_settings().train_config({"kto": 0.0}).objectives.kto == 0
    monkeypatch.setenv("ILLUME_TRAIN", '{"objectives": {"dress": 0}}')
    assert load_settings().train_config().objectives.dress == 0


@pytest.mark.parametrize(
    ("value", "part"),
    [
        ('{"epochs": 0}', "epochs must be a whole number above 0"),
        ('{"objectives": {"dop": 1}}', "Unknown settings of objectives: dop"),
        ('{"objectives": {"dpo": -1}}', "dpo must be a number of at least 0"),
        ('{"objectives": {"illume": 0, "dress": 0, "dpo": 0}}', "every objective is off"),
    ],
)
def test_training_settings_that_are_wrong_are_named(
    monkeypatch: pytest.MonkeyPatch, value: str, part: str
) -> None:
    monkeypatch.setenv("ILLUME_TRAIN", value)
    with pytest.raises(SettingsError, match=f"ILLUME_TRAIN.*{part}"):
        load_settings()
