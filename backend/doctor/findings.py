"""What the doctor can find: each thing by its name, how grave it is, why it matters and what mends it."""

from __future__ import annotations

from enum import Enum, StrEnum


class Outcome(StrEnum):
    """How a check went."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


#: Label Studio 1.23.1 and newer call no private address without both.
BOTH_VARIABLES = "ML_BLOCK_LOCAL_IP=false and SSRF_PROTECTION_ENABLED=false"
#: The flag of Label Studio's own that makes bulk pushes cheap.
BULK_FLAG = "fflag_fix_back_4620_memory_efficient_predictions_import_08012025_short"
_CONNECT = "illume connect --project N"


class Finding(Enum):
    """One thing that can be wrong. The table in docs/help.md is made of these.

    Args:
        label: its name, which stays the same: scripts may look for it in `illume doctor --json`.
        outcome: FAILED where annotators or training are kept from something, else WARNING.
        why: why it matters.
        mend: what mends it; "--project N" stands for the project that is looked at.
    """

    def __init__(self, label: str, outcome: Outcome, why: str, mend: str) -> None:
        self.label = label
        self.outcome = outcome
        self.why = why
        self.mend = mend

    # -- this machine ----------------------------------------------------------------------------------

    SETTINGS = (
        "settings wrong",
        Outcome.FAILED,
        "Nothing starts with them.",
        "correct what is named, in the environment or in illume.toml",
    )
    DATA_FOLDER = (
        "data folder not writable",
        Outcome.FAILED,
        "Database, adapters, pictures and runs are kept there.",
        "give the user that runs this write access, or name another folder: ILLUME_DATA_DIR",
    )
    CANNOT_START = (
        "cannot start",
        Outcome.FAILED,
        "`illume serve` and `illume worker` end with the same error.",
        "do what the error says",
    )
    DATABASE_AWAY = (
        "database away",
        Outcome.FAILED,
        "Events of Label Studio are refused until it is back; reconciliation brings them in then.",
        "start the database, or correct ILLUME_DATABASE_URL",
    )
    SCHEMA_NEWER = (
        "database newer than the program",
        Outcome.FAILED,
        "A newer ILLUME has changed the tables, and an older one would misread them.",
        "install the newer version again, or bring back a backup from before: illume restore FILE --replace",
    )
    CLOCK_DATABASE = (
        "clock differs from the database's",
        Outcome.FAILED,
        "Leases are times: a worker would take over what another one still works at.",
        "synchronise the clocks of all machines (NTP)",
    )
    DISK_FULL = (
        "disk full",
        Outcome.FAILED,
        "The database refuses to write, so events are lost until reconciliation; no run can end.",
        "make room on that disk, or move the folder: ILLUME_DATA_DIR, ILLUME_ADAPTERS, HF_HOME",
    )
    DISK_NEARLY_FULL = (
        "disk nearly full",
        Outcome.WARNING,
        "A training run keeps two checkpoints, its adapter and its pictures: 2 GiB for a base model of 7 B.",
        "make room on that disk, bound the pictures by ILLUME_PICTURES_CACHE_MB, or move the folder",
    )
    PACKAGES = (
        "versions out of step",
        Outcome.WARNING,
        "This combination of packages is not tested; what breaks may break silently.",
        "pip install --upgrade illume-label-studio in this environment",
    )
    BACKEND_SILENT = (
        "backend silent",
        Outcome.FAILED,
        "Label Studio can neither ask for candidates nor send annotations.",
        "start it with `illume serve`, or set ILLUME_BACKEND_URL to where it listens",
    )
    BACKEND_OTHER = (
        "another program at the backend's address",
        Outcome.FAILED,
        "Label Studio's calls go to it.",
        "choose another port with ILLUME_PORT and ILLUME_BACKEND_URL, then connect again",
    )
    PROCESSES_DIFFER = (
        "processes of different versions",
        Outcome.WARNING,
        "One of them may not know what another one writes.",
        "restart `illume serve` and every `illume worker` from one installation",
    )
    WORKER_MISSING = (
        "worker missing",
        Outcome.FAILED,
        "Nothing is sampled ahead, no event is taken in, no run begins.",
        "start one: illume worker (or illume serve --with-worker)",
    )
    WORKER_SILENT = (
        "worker not heard of",
        Outcome.WARNING,
        "It hangs, was stopped, or has died; when its lease ends another worker takes over.",
        "look at its log and restart it: illume worker",
    )

    # -- base model and adapters -----------------------------------------------------------------------

    MODEL_MISSING = (
        "base model missing",
        Outcome.FAILED,
        "Nothing can be sampled or trained.",
        "set ILLUME_BASE_MODEL to a folder or a hub id, or unset it for the embedded model",
    )
    MODEL_UNREADABLE = (
        "base model unreadable",
        Outcome.FAILED,
        "Nothing can be sampled or trained.",
        "let the user that runs illume read the folder and every file in it (chmod -R a+rX FOLDER)",
    )
    MODEL_INCOMPLETE = (
        "base model incomplete",
        Outcome.FAILED,
        "A download or a copy was broken off.",
        "fetch it again: hf download MODEL --local-dir FOLDER",
    )
    MODEL_POINTERS = (
        "pointers in place of weights",
        Outcome.FAILED,
        "The repository was cloned without Git LFS, so the files name the weights and do not hold them.",
        "in that folder: git lfs install && git lfs pull; or: hf download MODEL --local-dir FOLDER",
    )
    MODEL_UNSUITABLE = (
        "base model unsuitable",
        Outcome.FAILED,
        "It must be a decoder-only vision-language model in safetensors.",
        "set ILLUME_BASE_MODEL to one such as LLaVA, Idefics3 or Gemma 3",
    )
    MODEL_SLOW = (
        "base model slower than it could be",
        Outcome.WARNING,
        "Annotators wait longer, or scores are less than they could be.",
        "what is named can be left as it is",
    )
    ADAPTERS_UNWRITABLE = (
        "adapters not writable",
        Outcome.FAILED,
        "Versions could not be published.",
        "give the user that runs this write access, or name another place: ILLUME_ADAPTERS",
    )
    ADAPTERS_CAUTION = (
        "adapters with a caution",
        Outcome.WARNING,
        "What the store cannot promise shows only when two machines publish at once.",
        "what is named",
    )
    ADAPTER_DAMAGED = (
        "adapter damaged",
        Outcome.FAILED,
        "The version that serves cannot be loaded, so no candidate can be sampled.",
        "illume rollback --project N, or restore the version from a backup",
    )
    ADAPTER_FOREIGN = (
        "adapter of another base model",
        Outcome.FAILED,
        "On other weights it is noise, where it loads at all.",
        "set ILLUME_BASE_MODEL back, or begin anew: illume promote v0000 --project N --reason ...",
    )

    # -- Label Studio ----------------------------------------------------------------------------------

    LABEL_STUDIO_AWAY = (
        "Label Studio unreachable",
        Outcome.FAILED,
        "Tasks, pictures and annotations are there.",
        "start Label Studio, or correct ILLUME_LABEL_STUDIO_URL (scheme, host and port)",
    )
    LOCALHOST_IN_CONTAINER = (
        "localhost inside a container",
        Outcome.FAILED,
        "In a container localhost is the container itself, not the machine it runs on.",
        "ILLUME_LABEL_STUDIO_URL=http://host.docker.internal:PORT (on Linux start the container with "
        "--add-host=host.docker.internal:host-gateway), or the service's name in Docker Compose",
    )
    LABEL_STUDIO_OTHER = (
        "not Label Studio",
        Outcome.FAILED,
        "Something answers there, but not its API.",
        "give the address under which Label Studio opens in a browser: ILLUME_LABEL_STUDIO_URL",
    )
    LABEL_STUDIO_OLD = (
        "Label Studio older than proven",
        Outcome.WARNING,
        "Every call was proven against 1.23.2; older ones differ in what they ask and answer.",
        "pip install --upgrade label-studio (where Label Studio is installed), or run `illume simulate "
        "--label-studio` to prove this one",
    )
    TOKEN_MISSING = (
        "token missing",
        Outcome.FAILED,
        "Without it tasks and pictures cannot be read and candidates cannot be pushed.",
        "in Label Studio: Account & Settings, Personal Access Token; then set ILLUME_LABEL_STUDIO_TOKEN",
    )
    TOKEN_REFUSED = (
        "token refused",
        Outcome.FAILED,
        "It is mistyped, revoked, expired, of another kind or of another server.",
        "in Label Studio: Account & Settings, Personal Access Token; then set ILLUME_LABEL_STUDIO_TOKEN",
    )
    TOKEN_LEGACY = (
        "legacy tokens disabled",
        Outcome.FAILED,
        "Label Studio knows two kinds of tokens, and the old kind is off unless an owner allows it.",
        "set ILLUME_LABEL_STUDIO_TOKEN to a Personal Access Token (Account & Settings); or let an owner "
        "allow the old kind: Organization, API Tokens Settings, Legacy Tokens",
    )
    CLOCK_LABEL_STUDIO = (
        "clock differs from Label Studio's",
        Outcome.WARNING,
        "Access tokens live 300 s by its clock: from 60 s behind it we use dead ones, from 240 s ahead each "
        "request fetches a new one; and changes of the last 60 s are read twice to miss none.",
        "synchronise the clocks of both machines (NTP: timedatectl set-ntp true)",
    )
    ADDRESS_BLOCKED = (
        "local addresses blocked",
        Outcome.FAILED,
        "Since 1.23.1 Label Studio calls no private address: no live candidates, no events.",
        f"start Label Studio with {BOTH_VARIABLES} in its environment (one of them alone makes a backend "
        "without its webhook), then: illume connect --project N",
    )
    ADDRESS_UNRESOLVED = (
        "host unknown to Label Studio",
        Outcome.FAILED,
        "The backend is called by Label Studio: its name must mean something there, not here.",
        "set ILLUME_BACKEND_URL to an address that Label Studio's machine or container resolves "
        "(http://host.docker.internal:9090, or the service's name in Docker Compose), then connect again",
    )

    # -- a project -------------------------------------------------------------------------------------

    NO_PROJECT = (
        "no project",
        Outcome.WARNING,
        "There is nothing to sample or to learn from.",
        "illume connect --project N",
    )
    PROJECT_CLOSED = (
        "project out of reach",
        Outcome.FAILED,
        "It was deleted, or the token's user may not open it.",
        "let the token's user open the project in Label Studio, or connect another one: illume connect",
    )
    LABEL_CONFIG = (
        "label config lacks a tag",
        Outcome.FAILED,
        "Candidates could not be shown, or ticks could not be read.",
        f"{_CONNECT} --label-config select (add --dry-run to see first what changes), or add the tags named",
    )
    PRELABEL_OFF = (
        "prelabelling off",
        Outcome.FAILED,
        "Annotators see no candidates.",
        f"{_CONNECT} (or: Settings, Annotation, Use predictions to prelabel tasks)",
    )
    BACKEND_UNREGISTERED = (
        "backend not registered",
        Outcome.FAILED,
        "Label Studio asks nobody, or another backend, for candidates.",
        _CONNECT,
    )
    BACKEND_UNREACHED = (
        "backend not reached from Label Studio",
        Outcome.FAILED,
        "Label Studio calls the backend, so the address must be right where Label Studio runs.",
        "set ILLUME_BACKEND_URL to an address that Label Studio's machine or container reaches, then connect "
        "again",
    )
    BACKEND_REFUSES = (
        "backend refuses the project",
        Outcome.FAILED,
        "Label Studio gets through to it, shows its error, and asks it for nothing.",
        "mend the label config where that lacks a tag; else the log of `illume serve` names the cause",
    )
    BACKEND_NOT_FIRST = (
        "another backend first",
        Outcome.WARNING,
        "Label Studio asks only the first one for predictions.",
        "remove the other backend: Settings, Model",
    )
    BACKEND_NOT_INTERACTIVE = (
        "no new candidates on request",
        Outcome.WARNING,
        "The labelling configuration lets people ask for new candidates; Label Studio does not pass it on.",
        _CONNECT,
    )
    VERSION_HIDDEN = (
        "another version shown",
        Outcome.WARNING,
        "Annotators see predictions that are not those of the version that serves.",
        _CONNECT,
    )
    WEBHOOK_MISSING = (
        "backend without webhook",
        Outcome.FAILED,
        "Ticks arrive only when Label Studio is next asked, and Start Training alone still works.",
        f"{_CONNECT}; where Label Studio refuses with 403, start it with {BOTH_VARIABLES} first",
    )
    WEBHOOK_OFF = (
        "webhook off",
        Outcome.FAILED,
        "No event arrives, or events arrive without what was said.",
        _CONNECT,
    )
    WEBHOOK_SECRET = (
        "webhook without the secret",
        Outcome.FAILED,
        "Its events are refused: anybody could have sent them.",
        _CONNECT,
    )
    WEBHOOK_TWICE = (
        "webhook twice",
        Outcome.WARNING,
        "Every event comes twice; annotators wait for both.",
        _CONNECT,
    )
    WEBHOOK_OLD_URL = (
        "webhook with an old URL",
        Outcome.WARNING,
        "It is ours, and leads to where the backend was: each submit waits up to a second for nobody, and "
        "whoever has that address now gets the annotations and our secret.",
        "in Label Studio: the project's Settings, Webhooks, delete it",
    )
    WEBHOOK_ORPHAN = (
        "webhook of a deleted backend",
        Outcome.WARNING,
        "Label Studio leaves the webhook behind when a backend is deleted: each submit waits for it.",
        "in Label Studio: the project's Settings, Webhooks, delete it",
    )
    EVENTS_SILENT = (
        "events do not arrive",
        Outcome.WARNING,
        "Reconciliation brings everything in, only later. Label Studio sends an event once, waits a second, "
        "and writes a failure into its own log alone.",
        f"start Label Studio with {BOTH_VARIABLES}; see that ILLUME_BACKEND_URL is right where it runs",
    )
    NEVER_READ = (
        "never read",
        Outcome.WARNING,
        "What people said before is not known.",
        "start the worker (illume worker), or once: illume sync --project N",
    )
    READ_LATE = (
        "read too long ago",
        Outcome.WARNING,
        "What no event told is not known yet.",
        "the worker does it: illume worker; or once: illume sync --project N",
    )
    READING_FAILS = (
        "cannot be read",
        Outcome.FAILED,
        "What no event tells is missed until it works again.",
        "mend what the error names, then: illume sync --project N",
    )
    PICTURES = (
        "pictures not fetchable",
        Outcome.FAILED,
        "Tasks with such pictures get no candidates.",
        "do what the error says; pictures are fetched with the token's rights",
    )
    PICTURES_INSIDE = (
        "pictures inside task data",
        Outcome.FAILED,
        "A picture as data: URL would travel with every call and every annotation, and is not read.",
        "import the tasks again with the pictures uploaded, or served from a storage of the project",
    )
    NO_TASKS = (
        "no tasks",
        Outcome.WARNING,
        "There is nothing to sample candidates for.",
        "import tasks into the project; the worker reads them, or: illume sync --project N",
    )
    PUSH_SLOW = (
        "slow bulk endpoint",
        Outcome.WARNING,
        "Label Studio recounts the whole project at each bulk push: 205 s for one prediction at 100,000 "
        "tasks, 0.05 s with the flag.",
        f"start Label Studio with {BULK_FLAG}=true in its environment",
    )
    SAMPLING_FAILS = (
        "tasks not sampled",
        Outcome.WARNING,
        "They open without candidates.",
        "mend the tasks named; they are tried again by themselves",
    )
    EVENT_ODD = (
        "event not understood",
        Outcome.WARNING,
        "What it told comes with the next reconciliation.",
        "nothing, if it was somebody's experiment; else tell us what sent it",
    )
    CANDIDATES_WANTING = (
        "candidates still wanting",
        Outcome.WARNING,
        "Whoever opens such a task waits while its candidates are sampled.",
        "they are on their way while `illume worker` runs; all at once: illume presample --project N",
    )
