"""WSGI entry point: `gunicorn --threads 16 --preload 'backend._wsgi:app()'`."""

from __future__ import annotations

from flask import Flask

from backend.app import create_app
from backend.settings import load_settings


def app() -> Flask:
    """The app made from the environment and illume.toml."""
    return create_app(load_settings())
