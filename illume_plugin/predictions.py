"""Turns candidates into Label Studio predictions, and checks every prediction before it leaves."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from illume_plugin.identity import content_bits, storable, wording
from illume_plugin.label_config import CANDIDATES, LabelConfig
from illume_plugin.types import MAX_CANDIDATES, Candidate, CandidateSet, Json

if TYPE_CHECKING:
    from label_studio_sdk.label_interface.interface import LabelInterface

#: The seed travels through the browser inside the annotation, and JavaScript holds 53 bits exactly.
ORDER_SEED_BITS = 53
#: Letters that show nothing and that terminals obey.
_CONTROLS = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0)], " ")


def arrange(
    candidates: Iterable[Candidate],
    *,
    project_id: int,
    task_id: int,
    version: str,
    plan: str,
    limit: int = MAX_CANDIDATES,
    dropped: Mapping[str, int] | None = None,
) -> CandidateSet:
    """Order the candidates that an annotator will see (`selection.choose` has chosen them).

    Empty texts and repeated wordings go, the most likely `limit` stay, and their order is shuffled so
    that nobody learns that the first row is the likeliest. The outcome depends on the set of candidates
    alone, not on the order they come in.

    The score is the likelihood per token of the likeliest one, not its rank: ranks compare the candidates of
    one task, and the Data Manager sorts tasks.

    Args:
        limit: rows to fill, at most MAX_CANDIDATES; pass the configuration's `slots`.
        dropped: draws that went before, by reason.
    """
    kept = _likeliest(candidates, max(0, min(limit, MAX_CANDIDATES)))
    seed = content_bits([project_id, task_id, version, plan], ORDER_SEED_BITS)
    best = max((c.logprob_mean for c in kept if c.logprob_mean is not None), default=None)
    return CandidateSet(
        project_id=project_id,
        task_id=task_id,
        version=version,
        plan=plan,
        order_seed=seed,
        score=0.0 if best is None else min(1.0, math.exp(min(0.0, best))),
        candidates=tuple(sorted(kept, key=lambda candidate: _place(seed, candidate.text))),
        dropped=dict(dropped or {}),
    )


def _likeliest(candidates: Iterable[Candidate], limit: int) -> list[Candidate]:
    by_wording: dict[str, Candidate] = {}
    for candidate in sorted(map(_tidy, candidates), key=_likeliest_first):
        key = wording(candidate.text)
        if key:
            by_wording.setdefault(key, candidate)
    return list(by_wording.values())[:limit]


def _tidy(candidate: Candidate) -> Candidate:
    """Showable text, and no number that JSON cannot hold."""
    return replace(
        candidate,
        text=" ".join(storable(candidate.text).translate(_CONTROLS).split()),
        logprob_mean=_finite(candidate.logprob_mean),
        i2c=_finite(candidate.i2c),
        pmi=_finite(candidate.pmi),
        relevance=_finite(candidate.relevance),
        rank=_finite(candidate.rank),
        sentence_logprobs=_all_finite(candidate.sentence_logprobs),
        sentence_relevances=_all_finite(candidate.sentence_relevances),
    )


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _all_finite(values: tuple[float, ...]) -> tuple[float, ...]:
    return values if all(map(math.isfinite, values)) else ()


def _likeliest_first(candidate: Candidate) -> tuple[float, str, float, int, str]:
    logprob = candidate.logprob_mean
    rank = math.inf if logprob is None else -logprob
    return rank, candidate.text, candidate.temperature, candidate.seed, candidate.prompt


def _place(seed: int, text: str) -> bytes:
    # sorting by a keyed hash is a shuffle that no change of Python's random module can alter
    return hashlib.sha256(f"{seed}\n{text}".encode()).digest()


def render_prediction(config: LabelConfig, candidate_set: CandidateSet) -> dict[str, Json]:
    """Write a candidate set as a prediction: the texts, what they were, and no ticks.

    The boxes stay blank on purpose: a hotkey would untick a ticked box, and an unread task could be
    submitted as agreement. An empty set gives `result: []`, which should not be pushed: Label Studio would
    store it and not ask again.
    """
    shown = candidate_set.candidates[: config.slots]
    return {
        "model_version": candidate_set.version,
        "score": candidate_set.score,
        "result": [candidates_region(config, candidate_set, shown)] if shown else [],
    }


def candidates_region(
    config: LabelConfig, candidate_set: CandidateSet, shown: tuple[Candidate, ...]
) -> dict[str, Any]:
    """The texts of a first round and, in `meta.illume`, where they come from."""
    texts = [candidate.text for candidate in shown]
    provenance = {
        "round": 1,
        "kept": 0,
        "model_version": candidate_set.version,
        "plan": candidate_set.plan,
        "order_seed": candidate_set.order_seed,
        "texts": list(texts),
        "scores": [candidate.logprob_mean for candidate in shown],
        **_figures(shown),
        **_sides(shown),
        **_versions(shown),
    }
    return {
        "id": "illume-cand",
        "from_name": CANDIDATES,
        "to_name": config.to_name,
        "type": "textarea",
        "value": {"text": texts},
        "meta": {"illume": provenance},
    }


def _figures(shown: tuple[Candidate, ...]) -> dict[str, Json]:
    """Every further figure that some candidate has, row by row, to four decimals."""
    columns = {
        name: [getattr(candidate, name) for candidate in shown]
        for name in ("rank", "relevance", "i2c", "pmi")
    }
    return {
        name: [None if value is None else round(value, 4) for value in values]
        for name, values in columns.items()
        if any(value is not None for value in values)
    }


def _sides(shown: tuple[Candidate, ...]) -> dict[str, Json]:
    """Row by row, which end of a sentence search a candidate is from; only where there was a search."""
    sides = [candidate.searched.side if candidate.searched else None for candidate in shown]
    return {"sides": [side and side.value for side in sides]} if any(sides) else {}


def _versions(shown: tuple[Candidate, ...]) -> dict[str, Json]:
    """Row by row, the versions that wrote a candidate; only where two filled the set.

    Label Studio keeps it and shows it nowhere.
    """
    return {"versions": [list(each.versions) for each in shown]} if any(c.versions for c in shown) else {}


def check_prediction(config: LabelConfig, prediction: Json) -> list[str]:
    """Say what is wrong with a prediction, one sentence each; [] means it may leave.

    A prediction that Label Studio cannot store makes its task impossible to open, so this is at least as
    strict as Label Studio's own check.
    """
    if not isinstance(prediction, Mapping):
        return [f"the prediction is not an object ({prediction!r:.60})"]
    problems = [*_head_problems(prediction), *_text_problems(config, prediction.get("result"))]
    if not _is_json(prediction):
        problems.append(
            "the prediction is not strict JSON (a number is not finite, or a value has no JSON form)"
        )
    if problems:
        return problems
    found = _label_interface(config.xml).validate_prediction(  # type: ignore[no-untyped-call]
        prediction, return_errors=True
    )
    return [str(problem) for problem in found]


def _head_problems(prediction: Mapping[str, Json]) -> list[str]:
    problems = []
    score = prediction.get("score")
    if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1:
        problems.append(f"score is not a number from 0 to 1 ({score!r:.60})")
    version = prediction.get("model_version")
    if not isinstance(version, str) or not version.strip():
        problems.append(f"model_version is not a non-empty text ({version!r:.60})")
    return problems


def _text_problems(config: LabelConfig, result: Json) -> list[str]:
    if not isinstance(result, list):
        return [f"result is not a list ({result!r:.60})"]
    problems = []
    for region in result:
        if not isinstance(region, Mapping):
            problems.append(f"a region is not an object ({region!r:.60})")
        elif region.get("from_name") == CANDIDATES:
            problems += _candidate_text_problems(config, region.get("value"))
    return problems


def _candidate_text_problems(config: LabelConfig, value: Json) -> list[str]:
    texts = value.get("text") if isinstance(value, Mapping) else None
    if not isinstance(texts, list) or not texts:
        return [f"{CANDIDATES} holds no list of texts ({value!r:.60})"]
    problems = [
        f"text {row} of {CANDIDATES} is not a text that can be shown and stored ({text!r:.60})"
        for row, text in enumerate(texts, start=1)
        if not isinstance(text, str) or not text.strip() or storable(text) != text
    ]
    if len(texts) > config.slots:
        problems.append(f"{CANDIDATES} holds {len(texts)} texts, the configuration has {config.slots} rows")
    return problems


def _is_json(value: Json) -> bool:
    try:
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError):
        return False
    return True


@lru_cache(maxsize=16)
def _label_interface(xml: str) -> LabelInterface:
    # imported here: it takes half a second, which the webhook listener and `illume --help` need not pay
    from label_studio_sdk.label_interface.interface import LabelInterface

    return LabelInterface(xml)
