"""New candidates on request, while the annotator looks at the task (Label Studio's interactive calls). Pure.

The annotator says in the control `refine` what the model should do otherwise; each text there is a wish, each
text in `log` an answered one. What is ticked stays, in the first rows; new candidates follow. The round that
ends goes into `log`, where the annotation keeps it (`preferences.rounds`).

What Label Studio sends besides is to be left alone: after each submit comes a call for the next task without
anything in it, and an answer with candidates would overwrite what that task shows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from illume_plugin.identity import storable
from illume_plugin.label_config import BEST, CANDIDATES, FITS, LOG, REFINE, STATE, LabelConfig
from illume_plugin.predictions import candidates_region
from illume_plugin.preferences.regions import Regions, by_control, texts, values
from illume_plugin.preferences.rounds import PROVENANCE, Round, critiques_of, read_round, rounds_of
from illume_plugin.types import MAX_CANDIDATES, Candidate, CandidateSet, Json, Wish

#: Values of the control `state`, which tell the annotator that nothing came of a wish.
FAILED, NOTHING_NEW = "failed", "nothing new"

#: A longer wish is cut: it is a sentence or two, and the prompt has to hold it.
MAX_WISH_CHARACTERS = 1000
#: A task with more finished rounds gets no further one: the annotation would grow without end.
MAX_ROUNDS = 20


@dataclass(frozen=True, slots=True)
class Kept:
    """A ticked row that stays.

    Attributes:
        text: as it stands, perhaps edited.
        original: as it was sampled.
        versions: the adapters that wrote it, where that is known.
    """

    text: str
    original: str
    versions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LiveRound:
    """A wish that waits for its answer.

    Attributes:
        wish: what is asked for; its `round` is the one that ends.
        kept: the ticked rows, in their order.
        best: which of `kept` has the star, from 0; None for none of them.
        log: the finished rounds as they stand in `log`.
        unanswered: wishes that an earlier call left without an answer.
        finished: the round that ends, for `log`.
    """

    wish: Wish
    kept: tuple[Kept, ...]
    best: int | None
    log: tuple[str, ...]
    unanswered: tuple[str, ...]
    finished: Mapping[str, Json]


def live_round(config: LabelConfig, context: Mapping[str, Json]) -> LiveRound | None:
    """Read what the annotator asks for; None where nothing is asked for or it was answered already.

    Args:
        context: `params.context` of an interactive call: the results on the screen.
    """
    if not has_live_rounds(config):
        return None
    regions = by_control(_regions(context))
    wishes, log = texts(values(regions, REFINE, "text")), texts(values(regions, LOG, "text"))
    shown = values(regions, CANDIDATES, "text")
    if CANDIDATES not in regions or len(wishes) <= len(log):
        return None
    wish = storable(wishes[-1])[:MAX_WISH_CHARACTERS]
    earlier = rounds_of(regions)
    finished = _finished(regions, len(earlier) + 1, shown, wish)
    ended = read_round(finished, said=[])
    if ended is None:
        return None
    seen = [text for one in (*earlier, ended) for text in _texts_of(one)]
    kept = _kept(ended)
    return LiveRound(
        wish=Wish(
            round=len(earlier) + 1,
            text=wish,
            before=ended.refined,
            shown=frozenset(seen),
            rows=_free_rows(config, len(earlier) + 1, len(kept)),
        ),
        kept=tuple(kept.values()),
        best=None if ended.best is None else list(kept).index(ended.best),
        log=tuple(log),
        unanswered=tuple(wishes[len(log) : -1]),
        finished=finished,
    )


def _free_rows(config: LabelConfig, number: int, kept: int) -> int:
    return 0 if number > MAX_ROUNDS else max(0, min(config.slots, MAX_CANDIDATES) - kept)


def has_live_rounds(config: LabelConfig) -> bool:
    """Whether the labelling configuration can ask for new candidates and keep what came of it."""
    return all(config.controls.get(name) == "TextArea" for name in (REFINE, LOG))


def nothing(version: str) -> dict[str, Json]:
    """The answer that changes nothing on the screen."""
    return {"model_version": version, "score": 0.0, "result": []}


def answered(config: LabelConfig, asked: LiveRound, found: CandidateSet) -> dict[str, Json]:
    """The answer to a wish: the rows that stay, ticked, then new ones; "nothing new" without new ones."""
    new = found.candidates[: asked.wish.rows]
    if not new:
        return nothing_new(config, asked, found.version)
    ticks = [f"c{row}" for row in range(1, len(asked.kept) + 1)]
    result = [_candidates(config, asked, found, new), _choices(config, FITS, ticks)]
    if config.controls.get(BEST) == "Choices":
        result.append(_choices(config, BEST, [] if asked.best is None else [ticks[asked.best]]))
    result.append(_log(config, asked, json.dumps(asked.finished, ensure_ascii=False)))
    if config.controls.get(STATE) == "Choices":
        result.append(_choices(config, STATE, []))
    return {"model_version": found.version, "score": found.score, "result": result}


def failed(config: LabelConfig, asked: LiveRound, version: str) -> dict[str, Json]:
    """The answer to a wish that no candidates could be sampled for: the candidates stay as they are."""
    return _told(config, asked, version, FAILED)


def nothing_new(config: LabelConfig, asked: LiveRound, version: str) -> dict[str, Json]:
    """The answer to a wish that the model has nothing new for, or no row is free for."""
    return _told(config, asked, version, NOTHING_NEW)


def _told(config: LabelConfig, asked: LiveRound, version: str, state: str) -> dict[str, Json]:
    row = json.dumps({REFINE: asked.wish.text, STATE: state}, ensure_ascii=False)
    result = [_log(config, asked, row)]
    if config.controls.get(STATE) == "Choices":
        result.append(_choices(config, STATE, [state]))
    return {"model_version": version, "score": 0.0, "result": result}


def _regions(context: Mapping[str, Json]) -> list[Mapping[str, Json]]:
    found = context.get("result")
    return [each for each in found if isinstance(each, Mapping)] if isinstance(found, list) else []


def _finished(regions: Regions, number: int, shown: Sequence[Json], wish: str) -> dict[str, Json]:
    """The round that ends, as `log` keeps it; of the provenance only what cannot be told without it."""
    meta = regions[CANDIDATES].get("meta")
    illume = meta.get("illume") if isinstance(meta, Mapping) else None
    provenance = {
        name: illume[name]
        for name in PROVENANCE
        if isinstance(illume, Mapping) and illume.get(name) and illume[name] != shown
    }
    said = {FITS: values(regions, FITS, "choices"), BEST: values(regions, BEST, "choices")}
    return {
        "round": number,
        **provenance,
        CANDIDATES: list(shown),
        **said,
        "critique": critiques_of(regions),
        REFINE: wish,
    }


def _texts_of(one: Round) -> list[str]:
    originals = one.provenance.get("texts")
    return [*(text for _, text in one.candidates), *texts(originals if isinstance(originals, list) else [])]


def _kept(ended: Round) -> dict[int, Kept]:
    """Row -> what stays of it."""
    rows = {row: text for row, text in ended.candidates if row in ended.ticked}
    originals = _by_row(ended, "texts")
    versions = _by_row(ended, "versions")
    alone = ended.provenance.get("model_version")
    usual = [alone] if isinstance(alone, str) and alone else []
    return {
        row: Kept(
            text,
            original if isinstance(original := originals.get(row), str) and original.strip() else text,
            tuple(texts(wrote if isinstance(wrote := versions.get(row), list) else usual)),
        )
        for row, text in rows.items()
    }


def _by_row(ended: Round, name: str) -> dict[int, Json]:
    """Row -> what the provenance holds of it; nothing where rows were added or taken away."""
    held = ended.provenance.get(name)
    aligned = isinstance(held, list) and len(held) == len(ended.shown)
    return dict(enumerate(held, start=1)) if aligned and isinstance(held, list) else {}


def _candidates(
    config: LabelConfig, asked: LiveRound, found: CandidateSet, new: Sequence[Candidate]
) -> dict[str, Any]:
    """The rows of the next round with their provenance."""
    region = candidates_region(config, found, tuple(new))
    provenance = region["meta"]["illume"]
    count = len(asked.kept)
    for name, column in provenance.items():
        if isinstance(column, list) and name != "texts":
            provenance[name] = [None] * count + column
    provenance |= {
        "round": asked.wish.round + 1,
        "kept": count,
        "texts": [each.original for each in asked.kept] + provenance["texts"],
    }
    if any(each.versions != (found.version,) for each in asked.kept):
        provenance["versions"] = [list(each.versions) for each in asked.kept] + [[found.version] for _ in new]
    region["value"] = {"text": [*(each.text for each in asked.kept), *region["value"]["text"]]}
    return region


def _log(config: LabelConfig, asked: LiveRound, last: str) -> dict[str, Json]:
    """`log` with a row for every wish: the next call is told by them that these were answered."""
    left = [json.dumps({REFINE: wish, STATE: FAILED}, ensure_ascii=False) for wish in asked.unanswered]
    return {
        "id": "illume-log",
        "from_name": LOG,
        "to_name": config.to_name,
        "type": "textarea",
        "value": {"text": [*asked.log, *left, last]},
    }


def _choices(config: LabelConfig, name: str, chosen: list[str]) -> dict[str, Json]:
    return {
        "id": f"illume-{name}",
        "from_name": name,
        "to_name": config.to_name,
        "type": "choices",
        "value": {"choices": chosen},
    }
