"""The backend in a process of its own, without a model: python listening_process.py SETTINGS, as JSON."""

from __future__ import annotations

import json
import sys

import waitress

from backend.app import create_app
from backend.settings import load_settings

if __name__ == "__main__":
    settings = load_settings(**json.loads(sys.argv[1]))
    server = waitress.create_server(create_app(settings), host="127.0.0.1", port=0, threads=16)
    print(server.effective_port, flush=True)
    server.run()
