"""The one door to Label Studio's API."""

from .client import LabelStudio
from .records import (
    BackendInfo,
    LocalStorageInfo,
    ProjectInfo,
    TaskInfo,
    UserInfo,
    WebhookInfo,
)
from .tokens import TokenRefusedError

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
