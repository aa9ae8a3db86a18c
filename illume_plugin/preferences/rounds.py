"""Earlier rounds of candidates of one annotation: what was ticked, criticised, and asked for instead.

Each finished round is one JSON text in the control `log`:

    {"round": 1, "model_version": "v0003", "cand": ["...", "..."], "fits": ["c1"], "best": ["c1"],
     "critique": ["..."], "refine": "..."}

Beside these, `texts` and `versions` stand there as in `meta.illume` where some text was edited, or where the
rows are of several versions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from illume_plugin.label_config import BEST, CANDIDATES, CRITIQUE, FITS, LOG, NONE_FITS, REFINE
from illume_plugin.preferences.regions import Regions, texts, ticked, values
from illume_plugin.types import Json

#: What a round keeps of the provenance of its texts.
PROVENANCE = ("model_version", "texts", "versions")


@dataclass(frozen=True, slots=True)
class Round:
    """One finished round.

    Attributes:
        candidates: (1-based row, text) of each candidate.
        ticked: rows that fit.
        judged: whether anything was ticked, be it that none fits.
        shown: the texts as they stood there, row by row.
        provenance: of the texts, as in `meta.illume`.
        best: the row with the star, if it fits.
        critiques: what was said of this round's candidates.
        refinement: what the annotator asked for instead.
    """

    candidates: tuple[tuple[int, str], ...]
    ticked: frozenset[int]
    judged: bool
    best: int | None
    critiques: tuple[str, ...]
    refinement: str
    shown: tuple[Json, ...]
    provenance: Mapping[str, Json]

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
        if found := read_round(fields, said=[each for one in rounds for each in one.critiques]):
            rounds.append(found)
    return rounds


def new_critiques(regions: Regions, rounds: Sequence[Round]) -> tuple[str, ...]:
    """What was said of the last round's candidates: the control still shows what was said of earlier ones."""
    said = {each for one in rounds for each in one.critiques}
    return tuple(text for text in critiques_of(regions) if text not in said)


def _object(text: str) -> Mapping[str, Json]:
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return fields if isinstance(fields, Mapping) else {}


def critiques_of(regions: Regions) -> list[str]:
    """All that was said of candidates, of whatever round."""
    return texts(values(regions, CRITIQUE, "text"))


def read_round(fields: Mapping[str, Json], said: Sequence[str]) -> Round | None:
    """One row of the log; None for what holds no candidates.

    Args:
        said: critiques of earlier rounds, which the control still shows.
    """
    rows = [
        (row, text.strip())
        for row, text in enumerate(_list(fields, CANDIDATES), start=1)
        if isinstance(text, str) and text.strip()
    ]
    if not rows:
        return None
    fits = ticked(_list(fields, FITS), [row for row, _ in rows])
    refinement = fields.get(REFINE)
    return Round(
        candidates=tuple(rows),
        ticked=frozenset(fits),
        judged=bool(fits) or NONE_FITS in _list(fields, FITS),
        best=min(ticked(_list(fields, BEST), fits), default=None),
        critiques=tuple(text for text in texts(_list(fields, CRITIQUE)) if text not in said),
        refinement=refinement.strip() if isinstance(refinement, str) else "",
        shown=tuple(_list(fields, CANDIDATES)),
        provenance={name: fields.get(name) for name in PROVENANCE},
    )


def _list(fields: Mapping[str, Json], key: str) -> list[Json]:
    held = fields.get(key)
    return held if isinstance(held, list) else []
