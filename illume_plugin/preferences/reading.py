"""Reads an annotation: which rationales fit, which do not, which were edited or written, what else was said.

`cK` in the ticks means row K of the same annotation's texts, counted from 1. The texts as sampled stand in
`meta.illume.texts`; a row that differs from its original was edited. Who wrote which stands in
`meta.illume.versions` where two adapters filled the rows, else in `meta.illume.model_version`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from illume_plugin.identity import wording
from illume_plugin.label_config import BEST, CANDIDATES, FITS, HARMLESS, HELPFUL, HONEST, NONE_FITS, OWN
from illume_plugin.preferences.regions import Regions, regions_of, stars, texts, ticked, values
from illume_plugin.preferences.rounds import Round, new_critiques, rounds_of
from illume_plugin.types import Annotation, Json, Origin, Preference, Verdict


@dataclass(frozen=True, slots=True)
class _Row:
    position: int
    text: str
    origin: Origin
    version: str | None
    original: str = ""
    shared_with: str | None = None


def preferences_of(annotation: Annotation) -> list[Preference]:
    """What the annotator said of each rationale, by row; own rationales after them, earlier rounds last.

    A skipped annotation says nothing, nor does one without a tick (of a candidate that is there, or of
    "none fits"): it may never have been read. Otherwise the ticked candidates fit and the others do not;
    where "none fits" is ticked together with candidates, the candidates count. An edited text is judged as
    it stands and says nothing of the text it was made from. One wording gets one verdict, FITS if any of
    its rows is ticked; of several rounds the last one's counts. Stars belong to the best candidate, or to
    the only one that fits; a critique belongs to its round's candidates that do not fit, or to all where
    all fit. What was kept from an earlier round has its row of then. Controls of unexpected shape are
    ignored.
    """
    if annotation.was_cancelled:
        return []
    regions = regions_of(annotation)
    choices = values(regions, FITS, "choices")
    rows = _candidate_rows(regions)
    fits = ticked(choices, {row.position for row in rows})
    if not fits and NONE_FITS not in choices:
        return []
    best = min(ticked(values(regions, BEST, "choices"), fits), default=None)
    judged = [
        _preference(annotation, row, fits=row.position in fits, best=row.position == best) for row in rows
    ]
    rounds = rounds_of(regions)
    judged = _criticised(_starred(judged, regions), new_critiques(regions, rounds))
    own = [_preference(annotation, row, fits=True) for row in _own_rows(regions)]
    last = _one_per_wording([*judged, *own])
    return _with_turns(last, _earlier(annotation, rounds), rounds)


def _candidate_rows(regions: Regions) -> list[_Row]:
    return _rows(values(regions, CANDIDATES, "text"), _provenance(regions))


def _rows(shown: Sequence[Json], provenance: Mapping[str, Json]) -> list[_Row]:
    originals = provenance.get("texts")
    known = originals if isinstance(originals, list) else []
    rows = []
    for position, text in enumerate(shown, start=1):
        if isinstance(text, str) and text.strip():
            origin, original = _origin(position, text, len(shown), known)
            version, other = _writers(provenance, position, text, len(shown), known)
            rows.append(_Row(position, text.strip(), origin, version, original, other))
    return rows


def _writers(
    provenance: Mapping[str, Json], position: int, text: str, rows: int, originals: list[Json]
) -> tuple[str | None, str | None]:
    """The version that wrote a row, and the other one where two did."""
    by_row = provenance.get("versions")
    if not isinstance(by_row, list) or len(by_row) != len(originals):
        return _version(provenance.get("model_version")), None
    place = position - 1 if rows == len(originals) else _place(text, originals)
    wrote = by_row[place] if place is not None else None
    first, second = [*(wrote if isinstance(wrote, list) else []), None, None][:2]
    return _version(first), _version(second)


def _version(value: Json) -> str | None:
    """A version's name; None for what cannot be one."""
    return value if isinstance(value, str) and value else None


def _place(text: str, originals: list[Json]) -> int | None:
    """Where the text stands among the originals."""
    found = (n for n, each in enumerate(originals) if isinstance(each, str) and each.strip() == text.strip())
    return next(found, None)


def _own_rows(regions: Regions) -> list[_Row]:
    return [_Row(0, text, Origin.OWN, None) for text in texts(values(regions, OWN, "text"))]


def _provenance(regions: Regions) -> Mapping[str, Json]:
    meta = regions[CANDIDATES].get("meta") if CANDIDATES in regions else None
    illume = meta.get("illume") if isinstance(meta, Mapping) else None
    return illume if isinstance(illume, Mapping) else {}


def _origin(position: int, text: str, rows: int, originals: list[Json]) -> tuple[Origin, str]:
    """Whether the text was edited, and what it was made from, where that can be told."""
    # where rows were added or taken away, positions no longer say which text a row was made from
    aligned = rows == len(originals)
    sampled = texts([originals[position - 1]] if aligned else originals)
    if not sampled or text.strip() in sampled:
        return Origin.CANDIDATE, ""
    return Origin.EDITED, sampled[0] if aligned else ""


def _preference(annotation: Annotation, row: _Row, *, fits: bool, best: bool = False) -> Preference:
    return Preference(
        project_id=annotation.project_id,
        task_id=annotation.task_id,
        annotation_id=annotation.annotation_id,
        annotator=annotation.annotator,
        text=row.text,
        verdict=Verdict.FITS if fits else Verdict.UNFIT,
        origin=row.origin,
        position=row.position,
        version=row.version,
        best=best,
        original=row.original,
        shared_with=row.shared_with,
    )


def _starred(judged: Sequence[Preference], regions: Regions) -> list[Preference]:
    """The stars go to the best candidate or the only one that fits; of others nobody knows whose they are."""
    fitting = [each for each in judged if each.verdict is Verdict.FITS]
    rated = next((each for each in fitting if each.best), fitting[0] if len(fitting) == 1 else None)
    given = [stars(regions, control) for control in (HELPFUL, HONEST, HARMLESS)]
    return [
        replace(each, helpful=given[0], honest=given[1], harmless=given[2]) if each is rated else each
        for each in judged
    ]


def _criticised(judged: Sequence[Preference], critiques: Sequence[str]) -> list[Preference]:
    all_fit = all(each.verdict is Verdict.FITS for each in judged)
    critique = " ".join(critiques)
    return [
        replace(each, critique=critique) if all_fit or each.verdict is Verdict.UNFIT else each
        for each in judged
    ]


def _earlier(annotation: Annotation, rounds: Sequence[Round]) -> list[list[Preference]]:
    """What was said in each finished round; nothing where nothing was ticked in it."""
    return [
        _criticised(
            [
                _preference(annotation, row, fits=row.position in one.ticked)
                for row in _rows(one.shown, one.provenance)
            ],
            one.critiques,
        )
        if one.judged
        else []
        for one in rounds
    ]


def _with_turns(
    last: Sequence[Preference], earlier: Sequence[Sequence[Preference]], rounds: Sequence[Round]
) -> list[Preference]:
    """All rounds together, the last verdict of a wording first, each with the turn in which it came up."""
    kept = {wording(each.text): each for each in last}
    for judged in reversed(earlier):
        for each in _one_per_wording(judged):
            kept.setdefault(wording(each.text), each)
    return [_with_turn(each, rounds) for each in kept.values()]


def _with_turn(preference: Preference, rounds: Sequence[Round]) -> Preference:
    """The preference with the turn and the row in which its text came up first."""
    if preference.origin is Origin.OWN:
        return preference
    sampled = wording(preference.original or preference.text)
    places = ((turn, row) for turn, one in enumerate(rounds, start=1) if (row := _row_of(sampled, one)))
    turn, row = next(places, (len(rounds) + 1, preference.position))
    preference = replace(preference, position=row)
    if turn == 1:
        return preference
    asked = rounds[turn - 2]
    if not asked.refinement:
        return replace(preference, turn=turn)
    return replace(preference, turn=turn, before=asked.refined, refinement=asked.refinement)


def _row_of(sampled: str, one: Round) -> int:
    """The row of a round in which a text was shown, as sampled or as edited; 0 where it was not.

    What is kept stands in the first rows of later rounds, ticked: that says nothing of those rows.
    """
    rows = _rows(one.shown, one.provenance)
    wordings = ((row.position, {wording(row.text), wording(row.original)}) for row in rows)
    return next((position for position, those in wordings if sampled in those), 0)


def _one_per_wording(preferences: Iterable[Preference]) -> list[Preference]:
    kept: dict[str, Preference] = {}
    for preference in preferences:
        key = wording(preference.text)
        held = kept.setdefault(key, preference)
        if preference.verdict is Verdict.FITS and held.verdict is Verdict.UNFIT:
            kept[key] = preference
        elif preference.best:
            kept[key] = replace(
                held,
                best=True,
                helpful=preference.helpful,
                honest=preference.honest,
                harmless=preference.harmless,
            )
    return list(kept.values())
