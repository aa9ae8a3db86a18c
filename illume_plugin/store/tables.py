"""The tables. Every state the loop needs to survive a crash is a row here or a published folder on disk."""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    false,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from illume_plugin.store.dialect import StorableText as Text

metadata = MetaData()

# Label Studio's ids and ours may pass 2**31; SQLite only auto-increments INTEGER, which is 64 bits there.
BigId = BigInteger().with_variant(Integer, "sqlite")
JsonType = JSON().with_variant(JSONB, "postgresql")

#: States of a run that is not over; at most one such run per project.
LIVE_RUN = text("state IN ('queued', 'running')")
#: A trial that is not over; at most one per project.
OPEN_TRIAL = text("ended_at IS NULL")

projects = Table(
    "projects",
    metadata,
    Column("project_id", BigInteger, primary_key=True, autoincrement=False),
    Column("title", Text, nullable=False),
    Column("label_config", Text, nullable=False),
    Column("config_updated_at", String(32), nullable=False),
    Column("active_version", String(16), nullable=False),
    Column("created_at", Float, nullable=False),
)

tasks = Table(
    "tasks",
    metadata,
    Column("project_id", BigInteger, primary_key=True),
    Column("task_id", BigInteger, primary_key=True),
    Column("data", JsonType, nullable=False),
    Column("updated_at", String(32), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("deleted", Boolean, nullable=False),
)

events = Table(
    "events",
    metadata,
    Column("event_id", BigId, primary_key=True, autoincrement=True),
    Column("digest", String(64), nullable=False, unique=True),
    Column("action", String(64), nullable=False),
    Column("project_id", BigInteger),
    Column("body", JsonType, nullable=False),
    Column("received_at", Float, nullable=False),
    Column("applied_at", Float),
    Column("problem", Text),
    Index(
        "events_pending",
        "event_id",
        sqlite_where=text("applied_at IS NULL"),
        postgresql_where=text("applied_at IS NULL"),
    ),
)

annotations = Table(
    "annotations",
    metadata,
    Column("project_id", BigInteger, primary_key=True),
    Column("annotation_id", BigInteger, primary_key=True),
    # NULL only for an annotation whose deletion arrived before anything else about it
    Column("task_id", BigInteger),
    Column("updated_at", String(32), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("deleted", Boolean, nullable=False),
    Column("was_cancelled", Boolean, nullable=False),
    Column("annotator", BigInteger),
    Column("lead_time", Float),
    Column("result", JsonType, nullable=False),
    Index("annotations_by_task", "project_id", "task_id"),
)

preferences = Table(
    "preferences",
    metadata,
    Column("preference_id", BigId, primary_key=True, autoincrement=True),
    Column("project_id", BigInteger, nullable=False),
    Column("task_id", BigInteger, nullable=False),
    Column("annotation_id", BigInteger, nullable=False),
    Column("annotator", BigInteger),
    Column("text", Text, nullable=False),
    Column("verdict", String(8), nullable=False),
    Column("origin", String(16), nullable=False),
    Column("position", Integer, nullable=False),
    Column("version", String(64)),
    Column("best", Boolean, nullable=False),
    Column("noted_at", Float, nullable=False),
    Column("helpful", Integer),
    Column("honest", Integer),
    Column("harmless", Integer),
    Column("original", Text, nullable=False, server_default=""),
    Column("critique", Text, nullable=False, server_default=""),
    Column("before", Text, nullable=False, server_default=""),
    Column("refinement", Text, nullable=False, server_default=""),
    Column("turn", Integer, nullable=False, server_default="1"),
    # the other adapter that wrote the same text; NULL but for texts of a trial that both wrote
    Column("shared_with", String(64)),
    Index("preferences_by_annotation", "project_id", "annotation_id"),
    Index("preferences_by_time", "project_id", "noted_at"),
)

candidate_sets = Table(
    "candidate_sets",
    metadata,
    Column("project_id", BigInteger, primary_key=True),
    Column("task_id", BigInteger, primary_key=True),
    Column("version", String(16), primary_key=True),
    Column("plan", String(64), primary_key=True),
    Column("order_seed", BigInteger, nullable=False),
    Column("score", Float, nullable=False),
    Column("candidates", JsonType, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("pushed_at", Float),
    # NULL for sets made before reasons were kept
    Column("dropped", JsonType),
    # what the worker asks for twice a second, and what is nearly always nothing
    Index(
        "candidate_sets_unpushed",
        "project_id",
        "version",
        "plan",
        "task_id",
        sqlite_where=text("pushed_at IS NULL"),
        postgresql_where=text("pushed_at IS NULL"),
    ),
)

sampling_problems = Table(
    "sampling_problems",
    metadata,
    Column("project_id", BigInteger, primary_key=True),
    Column("task_id", BigInteger, primary_key=True),
    Column("version", String(16), primary_key=True),
    Column("problem", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("retry_at", Float, nullable=False),
)

training_sets = Table(
    "training_sets",
    metadata,
    Column("content_hash", String(64), primary_key=True),
    Column("project_id", BigInteger, nullable=False),
    Column("content", JsonType, nullable=False),
    Column("created_at", Float, nullable=False),
)

runs = Table(
    "runs",
    metadata,
    Column("run_id", BigId, primary_key=True, autoincrement=True),
    Column("project_id", BigInteger, nullable=False),
    Column("trigger", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("started_at", Float),
    Column("finished_at", Float),
    Column("parent", String(16), nullable=False),
    Column("version", String(16)),
    Column("training_set", String(64)),
    Column("progress", JsonType, nullable=False),
    Column("report", JsonType, nullable=False),
    Column("error", Text),
    Column("cancel_requested", Boolean, nullable=False),
    # go on from the nearest adapter that learnt from no deleted or changed annotation
    Column("without_deleted", Boolean, nullable=False, server_default=false()),
    Column("lease_owner", String(128)),
    Column("lease_until", Float),
    Index("one_live_run", "project_id", unique=True, sqlite_where=LIVE_RUN, postgresql_where=LIVE_RUN),
)

switches = Table(
    "switches",
    metadata,
    Column("switch_id", BigId, primary_key=True, autoincrement=True),
    Column("project_id", BigInteger, nullable=False),
    Column("from_version", String(16), nullable=False),
    Column("to_version", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("who", Text, nullable=False, server_default=""),
    Column("switched_at", Float, nullable=False),
    Index("switches_by_project", "project_id", "switch_id"),
)

# the annotations that a run learnt from or measured with, as they were then
run_sources = Table(
    "run_sources",
    metadata,
    Column("run_id", BigInteger, primary_key=True, autoincrement=False),
    Column("annotation_id", BigInteger, primary_key=True, autoincrement=False),
    Column("project_id", BigInteger, nullable=False),
    Column("task_id", BigInteger, nullable=False),
    Column("annotator", BigInteger),
    Column("digest", String(64), nullable=False),
    Column("said", String(64), nullable=False),
    Column("held_out", Boolean, nullable=False),
    Index("run_sources_by_annotation", "project_id", "annotation_id"),
)

# versions that are never to serve again
retirements = Table(
    "retirements",
    metadata,
    Column("project_id", BigInteger, primary_key=True, autoincrement=False),
    Column("version", String(16), primary_key=True),
    Column("who", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("retired_at", Float, nullable=False),
)

# versions that people compare with the active one, blind; the figures of a trial are kept when it ends
trials = Table(
    "trials",
    metadata,
    Column("trial_id", BigId, primary_key=True, autoincrement=True),
    Column("project_id", BigInteger, nullable=False),
    Column("active", String(16), nullable=False),
    Column("challenger", String(16), nullable=False),
    Column("alpha", Float, nullable=False),
    Column("most_tasks", Integer, nullable=False),
    # annotations up to this one were there before the trial
    Column("after_annotation", BigInteger, nullable=False),
    Column("started_at", Float, nullable=False),
    Column("started_by", Text, nullable=False),
    Column("ended_at", Float),
    Column("ended_by", Text, nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("report", JsonType, nullable=False),
    Index("one_open_trial", "project_id", unique=True, sqlite_where=OPEN_TRIAL, postgresql_where=OPEN_TRIAL),
    Index("trials_by_project", "project_id", "trial_id"),
)

# how far each project has been read from Label Studio; no row: never
reconciliations = Table(
    "reconciliations",
    metadata,
    Column("project_id", BigInteger, primary_key=True, autoincrement=False),
    # everything that changed up to this moment of Label Studio's clock is here
    Column("settled", String(32), nullable=False),
    # a reading of all tasks by id that is under way, the last id read, and what will be settled after it
    Column("walk", String(32)),
    Column("walked", BigInteger, nullable=False),
    Column("walk_settles", String(32), nullable=False),
    Column("checked_at", Float),
    Column("found", BigInteger, nullable=False),
    Column("problem", Text),
    Column("attempts", Integer, nullable=False),
    Column("retry_at", Float),
)

leases = Table(
    "leases",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("owner", String(128), nullable=False),
    Column("until", Float, nullable=False),
)
