"""The controls of one annotation, by name, and what was put into them. Unexpected shapes hold nothing."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping

from illume_plugin.examples import MAX_STARS
from illume_plugin.types import Annotation, Json

#: Control name -> its region of the annotation's result.
Regions = Mapping[str, Mapping[str, Json]]

_TICK = re.compile(r"c([1-9][0-9]{0,2})")


def regions_of(annotation: Annotation) -> Regions:
    """The first region of each control of an annotation."""
    return by_control(annotation.result)


def by_control(result: Iterable[Mapping[str, Json]]) -> Regions:
    """The first region of each control, of those that hold a value."""
    regions: dict[str, Mapping[str, Json]] = {}
    for region in result:
        name = region.get("from_name")
        if isinstance(name, str) and isinstance(region.get("value"), Mapping):
            regions.setdefault(name, region)
    return regions


def values(regions: Regions, control: str, key: str) -> list[Json]:
    """What a control holds under `key`, as a list."""
    held = regions[control]["value"].get(key) if control in regions else None
    if isinstance(held, str):  # Label Studio accepts a single text in place of a list of one
        return [held]
    return held if isinstance(held, list) else []


def texts(held: Iterable[Json]) -> list[str]:
    """The texts among the values that are more than white space, without what surrounds them."""
    return [text.strip() for text in held if isinstance(text, str) and text.strip()]


def stars(regions: Regions, control: str) -> int | None:
    """The stars of a rating from 1 to MAX_STARS; None where it has none, or more."""
    rating = regions[control]["value"].get("rating") if control in regions else None
    if not isinstance(rating, int) or isinstance(rating, bool):
        return None
    return rating if 1 <= rating <= MAX_STARS else None


def ticked(choices: Iterable[Json], positions: Collection[int]) -> set[int]:
    """The positions that are ticked: `c3` means position 3. Ticks of positions that are not there go."""
    matches = (_TICK.fullmatch(choice) for choice in choices if isinstance(choice, str))
    return {int(match[1]) for match in matches if match} & set(positions)
