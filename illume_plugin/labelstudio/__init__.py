"""The one door to Label Studio's API."""

from illume_plugin.labelstudio.client import LabelStudio
from illume_plugin.labelstudio.records import (
    BackendInfo,
    LocalStorageInfo,
    ProjectInfo,
    TaskInfo,
    UserInfo,
    WebhookInfo,
)
from illume_plugin.labelstudio.tokens import TokenRefusedError

__all__ = [
    "BackendInfo",
    "LabelStudio",
    "LocalStorageInfo",
    "ProjectInfo",
    "TaskInfo",
    "TokenRefusedError",
    "UserInfo",
    "WebhookInfo",
]
