"""Earlier rounds of candidates of one annotation: what was ticked, criticised, and asked for instead.

Each finished round is one JSON text in the control `log`:

    {"round": 1, "model_version": "v0003", "cand": ["...", "..."], "fits": ["c1"], "best": ["c1"],
     "critique": ["..."], "refine": "..."}
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from illume_plugin.label_config import BEST, CANDIDATES, CRITIQUE, FITS, LOG, REFINE
from illume_plugin.preferences.regions import Regions, texts, ticked, values
from illume_plugin.types import Json


@dataclass(frozen=True, slots=True)
class Round:
    """One finished round.

    Attributes:
        candidates: (1-based row, text) of each candidate.
        ticked: rows that fit.
        best: the row with the star, if it fits.
        critiques: what was said of this round's candidates.
        refinement: what the annotator asked for instead.
        version: adapter that sampled them, where it is known.
    """

    candidates: tuple[tuple[int, str], ...]
    ticked: frozenset[int]
    best: int | None
    critiques: tuple[str, ...]
    refinement: str
    version: str | None

    @property
    def refined(self) -> str:
        """The candidate that the refinement is about: the first that does not fit, or else the best one.

        The annotator writes to all of them at once; this choice is ours.
        """
        unfit = [text for row, text in self.candidates if row not in self.ticked]
        starred = [text for row, text in self.candidates if row == self.best]
        return [*unfit, *starred, *(text for _, text in self.candidates)][0]


def rounds_of(regions: Regions) -> list[Round]:
    """The finished rounds in their order; rows of the log that cannot be read are passed over."""
    rounds: list[Round] = []
    for text in texts(values(regions, LOG, "text")):
        fields = _object(text)
        if found := _round(fields, said=[each for one in rounds for each in one.critiques]):
            rounds.append(found)
    return rounds


def new_critiques(regions: Regions, rounds: Sequence[Round]) -> tuple[str, ...]:
    """What was said of the last round's candidates: the control still shows what was said of earlier ones."""
    said = {each for one in rounds for each in one.critiques}
    return tuple(text for text in texts(values(regions, CRITIQUE, "text")) if text not in said)


def _object(text: str) -> Mapping[str, Json]:
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return fields if isinstance(fields, Mapping) else {}


def _round(fields: Mapping[str, Json], said: Sequence[str]) -> Round | None:
    rows = [
        (row, text.strip())
        for row, text in enumerate(_list(fields, CANDIDATES), start=1)
        if isinstance(text, str) and text.strip()
    ]
    if not rows:
        return None
    fits = ticked(_list(fields, FITS), [row for row, _ in rows])
    version, refinement = fields.get("model_version"), fields.get(REFINE)
    return Round(
        candidates=tuple(rows),
        ticked=frozenset(fits),
        best=min(ticked(_list(fields, BEST), fits), default=None),
        critiques=tuple(text for text in texts(_list(fields, CRITIQUE)) if text not in said),
        refinement=refinement.strip() if isinstance(refinement, str) else "",
        version=version if isinstance(version, str) and version else None,
    )


def _list(fields: Mapping[str, Json], key: str) -> list[Json]:
    held = fields.get(key)
    return held if isinstance(held, list) else []
