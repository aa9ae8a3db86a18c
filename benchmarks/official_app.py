"""The peer: label-studio-ml's own app with a model that answers at once and learns nothing.

    python benchmarks/official_app.py PORT THREADS FOLDER

It runs under the same WSGI server with as many threads as ours. label-studio-ml is made not to see torch, as
our backend does, or each event would start a whole new Python in place of a fork.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import waitress

#: What it gives as candidates, as many as ours.
TEXTS = [f"because thing number {k} in the picture is round and blue" for k in range(1, 11)]
RESULT = {
    "id": "illume-cand",
    "from_name": "cand",
    "to_name": "image",
    "type": "textarea",
    "value": {"text": TEXTS},
}


def main(port: int, threads: int, folder: str) -> None:
    """Serve until interrupted."""
    sys.modules["torch"] = None  # type: ignore[assignment]
    from label_studio_ml.api import init_app
    from label_studio_ml.model import LabelStudioMLBase

    class Instant(LabelStudioMLBase):  # type: ignore[misc]
        """Has everything in memory."""

        def predict(self, tasks: Sequence[Any], **_: Any) -> list[dict[str, Any]]:
            return [{"model_version": "INITIAL", "score": 0.5, "result": [RESULT]} for _ in tasks]

        def fit(self, *_: Any, **__: Any) -> dict[str, Any]:
            return {}

    app = init_app(Instant, model_dir=folder)
    waitress.serve(app, host="127.0.0.1", port=port, threads=threads)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
