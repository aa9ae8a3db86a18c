"""The long attack: python -m fuzz.campaign --cases 20000 --json fuzz.json --page docs/security-fuzz.md

Seeds are printed as they go; `--seed S --batches 1` repeats one batch.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fuzz.attack import Tally, attack, see_that_all_works
from fuzz.cases import requests
from fuzz.target import Target, payloads

PAYLOADS = Path(__file__).resolve().parents[1] / "payloads"
BATCH = 250
#: Batches that one app lives through; every other app wants a password for the status page.
BATCHES = 8
LIBRARIES = ("flask", "werkzeug", "hypothesis", "label-studio-sdk", "sqlalchemy")


@contextmanager
def _target(number: int) -> Iterator[Target]:
    with tempfile.TemporaryDirectory(prefix="illume-fuzz-") as folder:
        target = Target(Path(folder), password=bool(number % 2))
        try:
            yield target
        finally:
            target.close()


def campaign(*, first_seed: int, batches: int, batch: int = BATCH) -> tuple[Tally, list[str]]:
    """Attack in batches, each with a seed of its own; returns the tally and the endpoints there are."""
    tally, bodies, began = Tally(), payloads(PAYLOADS), time.monotonic()
    endpoints: list[str] = []
    for app in range(-(-batches // BATCHES)):
        with _target(app) as target:
            endpoints = sorted({rule.endpoint for rule in target.app.url_map.iter_rules()})
            strategy = requests(target.app, bodies, target.form_token)
            for number in range(app * BATCHES, min((app + 1) * BATCHES, batches)):
                known = len(tally.findings)
                attack(target, strategy, cases=batch, seed=first_seed + number, tally=tally)
                see_that_all_works(target, seed=first_seed + number, tally=tally)
                _tell(tally, known, seed=first_seed + number, seconds=time.monotonic() - began)
    return tally, endpoints


def _tell(tally: Tally, known: int, *, seed: int, seconds: float) -> None:
    for finding in tally.findings[known:]:
        print(f"  seed {seed}: {finding[:2000]}", flush=True)
    print(f"seed {seed}: {tally.cases} cases, {len(tally.findings)} findings, {seconds:.0f} s", flush=True)


def results(
    tally: Tally, endpoints: list[str], *, first_seed: int, batches: int, seconds: float
) -> dict[str, Any]:
    """Everything about the campaign as JSON values."""
    told = asdict(tally)
    for name in ("endpoints", "statuses", "callers"):
        told[name] = dict(sorted(told[name].items(), key=lambda item: str(item[0])))
    return {
        "seeds": [first_seed, first_seed + batches - 1],
        "seconds": round(seconds),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in LIBRARIES},
        "never_reached": sorted(set(endpoints) - set(tally.endpoints)),
        **told,
    }


def page(found: Mapping[str, Any]) -> str:
    """The results as Markdown."""
    first, last = found["seeds"]
    rows = [f"| {status} | {count:,} |" for status, count in found["statuses"].items()]
    said = [f"* {finding[:600]}" for finding in found["findings"]] or ["None."]
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    return "\n".join(
        [
            "# What came of attacking every endpoint",
            "",
            "Written by `make fuzz` (tests/fuzz/campaign.py); do not edit. Drawn by tests/fuzz/cases.py "
            "and mutation.py, judged by tests/fuzz/judging.py, and after every "
            f"{BATCH} cases by tests/fuzz/target.py.",
            "",
            f"**{found['cases']:,} cases, {len(found['findings'])} findings.** Seeds {first} to {last}, "
            f"{found['seconds']:,} s, {len(found['endpoints'])} endpoints; never reached: "
            f"{', '.join(found['never_reached']) or 'none'}.",
            "",
            "| answer | times |",
            "|---|---|",
            *rows,
            "",
            "## Findings",
            "",
            *said,
            "",
            f"With {versions}.",
            "",
        ]
    )


def main() -> int:
    """Run it; 1 where something was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1_000)
    parser.add_argument("--batches", type=int, help="in place of --cases")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--page", type=Path)
    asked = parser.parse_args()
    batches, began = asked.batches or -(-asked.cases // BATCH), time.monotonic()
    tally, endpoints = campaign(first_seed=asked.seed, batches=batches)
    seconds = time.monotonic() - began
    found = results(tally, endpoints, first_seed=asked.seed, batches=batches, seconds=seconds)
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if asked.page:
        asked.page.write_text(page(found), encoding="utf-8")
    print(f"{tally.cases} cases, {len(tally.findings)} findings")
    return 1 if tally.findings else 0


if __name__ == "__main__":
    sys.exit(main())
