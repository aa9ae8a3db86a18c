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
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
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
COUNTED = ("endpoints", "statuses", "callers")
LIBRARIES = ("flask", "werkzeug", "hypothesis", "label-studio-sdk", "sqlalchemy")


@contextmanager
def _target(number: int) -> Iterator[Target]:
    with tempfile.TemporaryDirectory(prefix="illume-fuzz-") as folder:
        target = Target(Path(folder), password=bool(number % 2))
        try:
            yield target
        finally:
            target.close()


def campaign(*, first_seed: int, batches: int, batch: int = BATCH) -> Iterator[dict[str, Any]]:
    """Attack in batches, each with a seed of its own; gives the results so far after each."""
    tally, bodies, began = Tally(), payloads(PAYLOADS), time.monotonic()
    for app in range(-(-batches // BATCHES)):
        with _target(app) as target:
            endpoints = sorted({rule.endpoint for rule in target.app.url_map.iter_rules()})
            strategy = requests(target.app, bodies, target.form_token)
            for number in range(app * BATCHES, min((app + 1) * BATCHES, batches)):
                known = len(tally.findings)
                attack(target, strategy, cases=batch, seed=first_seed + number, tally=tally)
                see_that_all_works(target, seed=first_seed + number, tally=tally)
                seconds, seed = time.monotonic() - began, first_seed + number
                _tell(tally, known, seed=seed, seconds=seconds)
                yield results(tally, endpoints, seeds=[first_seed, seed], seconds=seconds)


def _tell(tally: Tally, known: int, *, seed: int, seconds: float) -> None:
    for finding in tally.findings[known:]:
        print(f"  seed {seed}: {finding[:2000]}", flush=True)
    print(f"seed {seed}: {tally.cases} cases, {len(tally.findings)} findings, {seconds:.0f} s", flush=True)


def results(tally: Tally, endpoints: list[str], *, seeds: list[int], seconds: float) -> dict[str, Any]:
    """Everything about the campaign as JSON values."""
    counted = {name: sorted(getattr(tally, name).items(), key=str) for name in COUNTED}
    return {
        "seeds": [seeds],
        "seconds": round(seconds),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in LIBRARIES},
        "known": endpoints,
        "cases": tally.cases,
        **{name: {str(key): count for key, count in items} for name, items in counted.items()},
        "findings": list(tally.findings),
    }


def together(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Campaigns with different seeds as one."""
    told = dict(parts[0])
    for part in parts[1:]:
        told |= {name: told[name] + part[name] for name in ("seeds", "seconds", "cases", "findings")}
        told |= {name: dict(sorted((Counter(told[name]) + Counter(part[name])).items())) for name in COUNTED}
    return told


def page(found: Mapping[str, Any]) -> str:
    """The results as Markdown."""
    seeds = ", ".join(f"{first} to {last}" for first, last in found["seeds"])
    missed = sorted(set(found["known"]) - set(found["endpoints"]))
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
            f"**{found['cases']:,} cases, {len(found['findings'])} findings.** Seeds {seeds}; "
            f"{found['seconds']:,} s in all; {len(found['known'])} endpoints, "
            f"never reached: {', '.join(missed) or 'none'}.",
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
    parser.add_argument("--json", type=Path, help="the results, written anew after each batch")
    parser.add_argument("--page", type=Path)
    parser.add_argument(
        "--join", type=Path, nargs="+", help="results of other campaigns, in place of a new one"
    )
    asked = parser.parse_args()
    if asked.join:
        found = together([json.loads(part.read_text(encoding="utf-8")) for part in asked.join])
        _keep(found, asked.json)
    else:
        batches = asked.batches or -(-asked.cases // BATCH)
        for found in campaign(first_seed=asked.seed, batches=batches):
            _keep(found, asked.json)
    if asked.page:
        asked.page.write_text(page(found), encoding="utf-8")
    print(f"{found['cases']} cases, {len(found['findings'])} findings")
    return 1 if found["findings"] else 0


def _keep(found: Mapping[str, Any], path: Path | None) -> None:
    if path:
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
