"""The chapter on DRESS's control, from the JSON of `dress_control.py`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seed_figures import goals, losses, mean_of, table

KEY = "dress"
#: What is drawn, by its name in the JSON.
ARMS = {
    "base": "base model",
    "plain": "trained, nothing said",
    "good": 'trained, under "helpful 4/4"',
    "bad": 'trained, under "helpful 1/4"',
    "praised": 'trained, under "helpful 4/4, yes"',
    "blamed": 'trained, under "helpful 1/4, no"',
    "drawn again": "where the first did not fit: drawn again",
    "after the wish": "where the first did not fit: after the right wish",
    "after another wish": "where the first did not fit: after another wish",
}


def chapter(found: Mapping[str, Any]) -> list[str]:
    """Its paragraphs."""
    work = found[KEY]
    figures = {name: figure for name, figure in found.items() if name != KEY}
    outcomes = list(work["outcomes"].values())
    size = work["size"]
    rows = [
        (
            words,
            mean_of([one["fit_rates"][arm]["value"] for one in outcomes]),
            ", ".join(str(one["fit_rates"][arm]["n"]) for one in outcomes),
        )
        for arm, words in ARMS.items()
    ]
    return [
        "## What is said of a rationale before it is told (DRESS)",
        f"One adapter a seed, trained on what simulated people said of {size['tasks']} tasks (stars, "
        f"critiques and wishes for a change, {outcomes[0]['feedback']} examples with the first seed), and "
        f"drawn under other conditions for {size['held_out']} held-out tasks at T = 0.7.",
        goals(figures),
        losses(figures),
        table(("fit rate", "mean", "tasks by seed"), rows),
    ]
