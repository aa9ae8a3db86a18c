"""Reads an annotation: which rationales fit, which do not, which were edited or written by the annotator.

`cK` in the ticks means row K of the same annotation's texts, counted from 1. The texts as sampled stand in
`meta.illume.texts`; a row that differs from its original was edited.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from illume_plugin.identity import wording
from illume_plugin.label_config import BEST, CANDIDATES, FITS, NONE_FITS, OWN
from illume_plugin.types import Annotation, Json, Origin, Preference, Verdict

_TICK = re.compile(r"c([1-9][0-9]{0,2})")

#: Control name -> its region of the annotation's result.
_Regions = Mapping[str, Mapping[str, Json]]


@dataclass(frozen=True, slots=True)
class _Row:
    position: int
    text: str
    origin: Origin
    version: str | None


def preferences_of(annotation: Annotation) -> list[Preference]:
    """What the annotator said of each rationale, by row; own rationales last.

    A skipped annotation says nothing, nor does one without a tick (of a candidate that is there, or of
    "none fits"): it may never have been read. Otherwise the ticked candidates fit and the others do not;
    where "none fits" is ticked together with candidates, the candidates count. An edited text is judged as
    it stands and says nothing of the text it was made from. One wording gets one verdict, FITS if any of
    its rows is ticked. Controls of unexpected shape are ignored.
    """
    if annotation.was_cancelled:
        return []
    regions = _regions(annotation)
    choices = _values(regions, FITS, "choices")
    rows = _candidate_rows(regions)
    ticked = _ticked(choices, rows)
    if not ticked and NONE_FITS not in choices:
        return []
    best = min(_ticked(_values(regions, BEST, "choices"), rows) & ticked, default=None)
    judged = [
        _preference(annotation, row, fits=row.position in ticked, best=row.position == best) for row in rows
    ]
    own = [_preference(annotation, row, fits=True) for row in _own_rows(regions)]
    return _one_per_wording([*judged, *own])


def _regions(annotation: Annotation) -> _Regions:
    regions: dict[str, Mapping[str, Json]] = {}
    for region in annotation.result:
        name = region.get("from_name")
        if isinstance(name, str) and isinstance(region.get("value"), Mapping):
            regions.setdefault(name, region)
    return regions


def _values(regions: _Regions, control: str, key: str) -> list[Json]:
    held = regions[control]["value"].get(key) if control in regions else None
    if isinstance(held, str):  # Label Studio accepts a single text in place of a list of one
        return [held]
    return held if isinstance(held, list) else []


def _candidate_rows(regions: _Regions) -> list[_Row]:
    provenance = _provenance(regions)
    version, originals = provenance.get("model_version"), provenance.get("texts")
    texts = _values(regions, CANDIDATES, "text")
    return [
        _Row(
            position=position,
            text=text.strip(),
            origin=_origin(position, text, len(texts), originals if isinstance(originals, list) else []),
            version=version if isinstance(version, str) and version else None,
        )
        for position, text in enumerate(texts, start=1)
        if isinstance(text, str) and text.strip()
    ]


def _own_rows(regions: _Regions) -> list[_Row]:
    texts = _values(regions, OWN, "text")
    return [
        _Row(0, text.strip(), Origin.OWN, None) for text in texts if isinstance(text, str) and text.strip()
    ]


def _provenance(regions: _Regions) -> Mapping[str, Json]:
    meta = regions[CANDIDATES].get("meta") if CANDIDATES in regions else None
    illume = meta.get("illume") if isinstance(meta, Mapping) else None
    return illume if isinstance(illume, Mapping) else {}


def _origin(position: int, text: str, rows: int, originals: list[Json]) -> Origin:
    # where rows were added or taken away, positions no longer say which text a row was made from
    sources = [originals[position - 1]] if rows == len(originals) else originals
    sampled = {source.strip() for source in sources if isinstance(source, str)}
    return Origin.EDITED if sampled and text.strip() not in sampled else Origin.CANDIDATE


def _ticked(choices: Iterable[Json], rows: Iterable[_Row]) -> set[int]:
    matches = (_TICK.fullmatch(choice) for choice in choices if isinstance(choice, str))
    return {int(match[1]) for match in matches if match} & {row.position for row in rows}


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
    )


def _one_per_wording(preferences: Iterable[Preference]) -> list[Preference]:
    kept: dict[str, Preference] = {}
    for preference in preferences:
        key = wording(preference.text)
        held = kept.setdefault(key, preference)
        if preference.verdict is Verdict.FITS and held.verdict is Verdict.UNFIT:
            kept[key] = preference
        elif preference.best:
            kept[key] = replace(held, best=True)
    return list(kept.values())
