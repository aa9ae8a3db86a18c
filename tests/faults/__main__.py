"""`make faults`: the long run of the fault harness, and docs/reliability.md written from it."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from live.conftest import PASSWORD, USERNAME, LiveLabelStudio, executable, free_port

from backend.demo.bootstrap import personal_access_token
from backend.demo.labelstudio_server import LabelStudioServer
from faults.campaign import Campaign, plans

#: The machine may sleep meanwhile.
READY_WITHIN_S = 3600.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0 where everything healed."""
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--light", type=int, default=15, help="rounds with stand-ins for the model")
    parser.add_argument("--true", type=int, default=3, help="rounds with the embedded model")
    parser.add_argument("--json", type=Path, default=Path("results/faults.json"))
    parser.add_argument("--page", type=Path, default=Path("docs/reliability.md"))
    parser.add_argument("--studio", type=Path, help="folder for Label Studio's data, to be used again")
    options = parser.parse_args(arguments)
    json, page = options.json.absolute(), options.page.absolute()
    with tempfile.TemporaryDirectory(prefix="illume-faults-studio-") as folder:
        well = _play(options.studio or Path(folder), json, page, options)
    return 0 if well else 1


def _play(folder: Path, results: Path, page: Path, options: argparse.Namespace) -> bool:
    server = LabelStudioServer(
        executable(), folder / "data", free_port(), folder / "files", USERNAME, PASSWORD
    )
    server.start()
    try:
        server.wait_until_ready(print, within_s=READY_WITHIN_S)
        token = personal_access_token(server.url, USERNAME, PASSWORD, folder / "token")
        studio = LiveLabelStudio(
            server.url, USERNAME, PASSWORD, token, server.executable, server.folder, server.document_root
        )
        campaign = Campaign(studio, results, page, seed=options.seed)
        return campaign.play(plans(options.seed, options.light, options.true))
    finally:
        server.stop()


if __name__ == "__main__":
    sys.exit(main())
