"""From Label Studio's events to preferences: observe, fold in any order, read the ticks."""

from illume_plugin.preferences.ledger import Ledger, fold, newer
from illume_plugin.preferences.observations import (
    AnnotationDeleted,
    AnnotationSeen,
    ConfigSeen,
    Observation,
    TaskDeleted,
    TaskSeen,
    TrainingRequested,
    observe,
    observe_kept,
    read_annotation,
    read_task_seen,
)
from illume_plugin.preferences.present import TaskNow, Totals, read_task_now
from illume_plugin.preferences.reading import preferences_of
from illume_plugin.preferences.secrets import strip_secrets

__all__ = [
    "AnnotationDeleted",
    "AnnotationSeen",
    "ConfigSeen",
    "Ledger",
    "Observation",
    "TaskDeleted",
    "TaskNow",
    "TaskSeen",
    "Totals",
    "TrainingRequested",
    "fold",
    "newer",
    "observe",
    "observe_kept",
    "preferences_of",
    "read_annotation",
    "read_task_now",
    "read_task_seen",
    "strip_secrets",
]
