"""One Settings object: ILLUME_* environment variables, then illume.toml, then defaults."""

from __future__ import annotations

import os
import secrets
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from illume_plugin.errors import SettingsError
from illume_plugin.gate_policy import GatePolicy, parse_policy
from illume_plugin.generation.plan import Strategy
from illume_plugin.quantization import Quantization
from illume_plugin.training.config import TrainConfig

TOML_FILE = "illume.toml"
#: Environment variable that names another settings file.
TOML_VARIABLE = "ILLUME_CONFIG"
#: User name of the Basic credentials that Label Studio sends us; the password is the secret.
BASIC_USER = "illume"
#: Header that carries the secret on webhooks.
SECRET_HEADER = "X-Illume-Secret"  # noqa: S105 - a name
#: A secret that is let in however many wrong ones came before must be too long to be guessed.
SECRET_LENGTH = 16


_SECRET_SETTINGS = {"secret", "label_studio_token", "database_url", "vllm_api_key", "dashboard_password"}


class Settings(BaseSettings):
    """Everything that can be set. Environment names are the field names with ILLUME_ in front."""

    model_config = SettingsConfigDict(
        env_prefix="ILLUME_", extra="forbid", frozen=True, env_ignore_empty=True
    )

    data_dir: Path = Field(Path(".illume"), description="database, adapters, picture cache, runs")
    database_url: str = Field("", repr=False, description="default: SQLite in data_dir")
    label_studio_url: str = Field("http://localhost:8080", description="where Label Studio answers")
    label_studio_token: SecretStr | None = Field(None, description="a personal access token")
    backend_url: str = Field("http://localhost:9090", description="where Label Studio reaches us")
    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(9090, ge=1, le=65535, description="port to listen on")
    secret: SecretStr | None = Field(None, description="default: made once, kept in data_dir/secret")
    dashboard_password: SecretStr | None = Field(
        None, description="of the status page; without one it is open to this machine alone"
    )
    trusted_proxies: int = Field(
        0,
        ge=0,
        le=5,
        description="reverse proxies of yours in front, each adding to X-Forwarded-For: who guesses secrets"
        " is counted by the address that the first of them saw",
    )

    base_model: str = Field("embedded", description="folder, hub id, or 'embedded'")
    device: str | None = Field(None, description="cpu, cuda, cuda:1, mps; default: the best there is")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="of the base model's weights; auto: float32 on CPU, otherwise as stored"
    )
    quantization: Quantization = Field(
        Quantization.NONE,
        description="bits of the base model's language blocks, served and trained: none, nf4 (QLoRA), int8;"
        " needs the extra qlora",
    )
    trust_remote_code: bool = Field(False, description="run Python code that comes with the base model")
    torch_threads: int = Field(0, ge=0, description="threads of the base model on CPU; 0: torch decides")
    sampling_rows: int = Field(
        0, ge=0, description="texts sampled at a time; 0: 120 on CPU, 1,000 on a GPU; fewer take less memory"
    )

    adapters: str = Field(
        "",
        description="where versions are kept, for several machines: a folder they share, or what fsspec"
        " opens, such as s3://bucket/prefix; default: data_dir/adapters",
    )
    adapters_cache_mb: int = Field(
        20_000, ge=1, description="copies of versions from such a store that this machine keeps unused, MB"
    )
    adapters_loaded: int = Field(
        8, ge=1, description="adapters that stay in memory; the one not used for longest goes first"
    )

    vllm_url: str | None = Field(
        None, description="vLLM server that samples in place of this process: http://gpu-1:8000"
    )
    vllm_api_key: SecretStr | None = Field(None, description="what the vLLM server got as --api-key")
    vllm_model: str = Field("", description="its name of the base model; default: the first one it lists")
    vllm_adapters: Path | None = Field(
        None, description="where the vLLM server sees our folder of adapters; default: at the same path"
    )
    vllm_reads: bool = Field(
        False, description="let it score texts it did not draw (i2c, pmi); see docs/scale-out.md before"
    )

    question_key: str = Field("question", description="key of the question in the task data")
    answer_key: str = Field("answer", description="key of the answer in the task data")
    allowed_image_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="hosts other than Label Studio that pictures may come from, comma separated"
    )

    pictures_cache_mb: int = Field(
        10_000, ge=1, description="size that the cache of pictures is kept below; unused ones go first"
    )

    temperatures: Annotated[tuple[float, ...], NoDecode] = Field(
        (0.3, 0.6, 0.9), description="sampling temperatures, comma separated"
    )
    samples: int = Field(5, ge=1, le=64, description="samples per temperature")
    suffixes: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="further wordings of the rationale prompt, separated by vertical bars: 'because' for"
        " plain models, questions for chat models; each is sampled beside the model's own",
    )
    strategy: Strategy = Field(
        Strategy.SAMPLE,
        description="sample: each rationale in one go; sentence_search: CSR's search (not with vllm_url)",
    )
    search_sentences: int = Field(5, ge=1, le=50, description="search: next sentences behind each open path")
    search_best: int = Field(1, ge=1, le=10, description="search: best paths that stay open")
    search_worst: int = Field(2, ge=0, le=10, description="search: worst paths that stay open")
    search_max_sentences: int = Field(4, ge=1, le=50, description="search: sentences of a rationale")
    max_new_tokens: int = Field(100, ge=1, le=1000, description="longest rationale, tokens")
    candidates: int = Field(6, ge=1, le=10, description="candidates shown per task")
    trade_off: float = Field(
        0.7, ge=0, le=1, description="choosing candidates: 1 the best ones, 0 the most different ones"
    )
    score_blind: bool = Field(
        True, description="score candidates without the picture too: do they owe it anything?"
    )
    relevance_model: str = Field(
        "", description="image-text encoder (CLIP, SigLIP) that ranks candidates: folder or hub id"
    )
    relevance_weight: float = Field(
        0.9, ge=0, le=1, description="weight of that encoder against the base model's own likelihood"
    )

    reconcile_every_s: float = Field(
        45.0,
        ge=5,
        description="seconds between two questions to Label Studio what changed; webhooks mostly tell before",
    )
    train_after: int = Field(50, ge=0, description="start a run after so many new preferences; 0: never")
    held_out_fraction: float = Field(0.2, gt=0, lt=1, description="share of tasks kept for evaluation")
    weigh_agreement: bool = Field(
        True, description="a rationale counts by the share of annotators who ticked it; no: all the same"
    )
    minimum_accepted: int = Field(1, ge=1, description="fewest accepted rationales worth a run")
    train_processes: int = Field(
        1, ge=1, le=64, description="processes of one run, such as one for each GPU (torchrun)"
    )
    train: dict[str, Any] = Field(
        {},
        description='how runs train, as JSON or as the table [train] of illume.toml: {"epochs": 3,'
        ' "objectives": {"dpo": 0.1}}',
    )

    keep_predictions_h: float = Field(
        24.0,
        ge=1,
        description="hours that candidates of a version stay in Label Studio after it was switched away from:"
        " longer than anybody keeps a task open",
    )
    gate_policy: Path | None = Field(
        None, description="TOML file with limits of the gate that differ from its defaults (docs/evidence.md)"
    )

    predict_deadline_s: float = Field(25.0, gt=0, description="longest time a /predict call may sample")
    predict_max_tasks: int = Field(500, ge=1, description="most tasks one /predict call may sample live")
    max_body_bytes: int = Field(64 * 2**20, ge=2**16, description="largest request body")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic's signature
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file())

    @field_validator("temperatures", "allowed_image_hosts", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return (
            tuple(part.strip() for part in value.split(",") if part.strip())
            if isinstance(value, str)
            else value
        )

    @field_validator("suffixes", mode="before")
    @classmethod
    def _split_suffixes(cls, value: Any) -> Any:
        """Questions hold commas."""
        return (
            tuple(part.strip() for part in value.split("|") if part.strip())
            if isinstance(value, str)
            else value
        )

    @field_validator("train")
    @classmethod
    def _trainable(cls, value: dict[str, Any]) -> dict[str, Any]:
        try:
            TrainConfig.from_json(value)
        except SettingsError as error:
            raise ValueError(str(error)) from error
        return value

    @field_validator("secret")
    @classmethod
    def _long_enough(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value()) < SECRET_LENGTH:
            raise ValueError(
                f"must have at least {SECRET_LENGTH} characters, or be left out: then one is made"
            )
        return value

    @field_validator("label_studio_url", "backend_url", "vllm_url")
    @classmethod
    def _http_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if not value.startswith(("http://", "https://")):
            raise ValueError("must start with http:// or https://")
        if "@" in value.split("/")[2]:
            raise ValueError("must hold no user name or password: this address is shown and logged")
        return value.rstrip("/")

    @property
    def store_url(self) -> str:
        """SQLAlchemy URL of the database."""
        return self.database_url or f"sqlite:///{(self.data_dir / 'illume.sqlite3').absolute()}"

    def train_config(self, objectives: Mapping[str, float] | None = None) -> TrainConfig:
        """How runs train.

        Args:
            objectives: settings of the objectives that win over those in `train`.

        Raises:
            SettingsError: one of them is unknown or wrong.
        """
        given = {**self.train.get("objectives", {}), **(objectives or {})}
        return TrainConfig.from_json({**self.train, "objectives": given})

    def gate_limits(self) -> GatePolicy:
        """The limits of the gate: its defaults, but for what the policy file names.

        Raises:
            SettingsError: the file cannot be read, or names a limit that is unknown or cannot be so.
        """
        if self.gate_policy is None:
            return GatePolicy()
        try:
            return parse_policy(self.gate_policy.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(
                f"ILLUME_GATE_POLICY={str(self.gate_policy)!r} cannot be read: {error}.",
                todo="Correct the path.",
            ) from error

    def shared_secret(self) -> str:
        """The secret that Label Studio must show; made and kept on first use when none is set."""
        return self.secret.get_secret_value() if self.secret else _kept_secret(self.data_dir / "secret")

    def token(self) -> str:
        """The Label Studio token.

        Raises:
            SettingsError: none is set.
        """
        if self.label_studio_token is None:
            raise SettingsError(
                "No Label Studio token is set.",
                why="Without it tasks and pictures cannot be read and candidates cannot be pushed.",
                todo=f"In {self.label_studio_url} open Account & Settings, Personal Access Token, create "
                "one, and set ILLUME_LABEL_STUDIO_TOKEN.",
            )
        return self.label_studio_token.get_secret_value()


def toml_file() -> Path:
    """The settings file: ILLUME_CONFIG, or illume.toml in the current folder.

    Raises:
        SettingsError: ILLUME_CONFIG names a file that is not there.
    """
    named = os.environ.get(TOML_VARIABLE)
    if named and not Path(named).is_file():
        raise SettingsError(f"{TOML_VARIABLE}={named!r}: there is no such file.", todo="Correct the path.")
    return Path(named or TOML_FILE)


def _kept_secret(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        pass
    draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(secrets.token_urlsafe(32))
        file.flush()
        os.fsync(file.fileno())
    try:
        # link, not rename: of several processes starting at once the first one's secret stays
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    return path.read_text(encoding="ascii").strip()


def load_settings(**overrides: Any) -> Settings:
    """Read the settings; `overrides` win over everything else.

    Raises:
        SettingsError: lists every wrong setting at once, with its value (secrets left out).
    """
    given = {key: value for key, value in overrides.items() if value is not None}
    try:
        return Settings(**given)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{toml_file()} is not TOML: {error}.", todo="Correct that line.") from error
    except ValidationError as error:
        raise SettingsError(
            "\n".join(_explain(problem) for problem in error.errors()),
            todo=f"Mend them in the environment or in {toml_file()}.",
        ) from error


def _explain(problem: Any) -> str:
    name = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"{name}: there is no such setting."
    hidden = name in _SECRET_SETTINGS or "@" in str(problem["input"])
    return f"ILLUME_{name.upper()}={'***' if hidden else repr(problem['input'])}: {problem['msg']}."
