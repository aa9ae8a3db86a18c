"""How patterns are spoken of: clauses of their own, read only where a pattern is asked for.

So the sentences of the shapes' world, which the weights were trained on, mean what they always meant.
To those of grammar.py come:

    clause   = ( "there is" | "I see" ) article thing [ "in the" PLACE ]
             | ( article | "the" ) thing "is in the" PLACE
             | "the object in the" PLACE "is" article thing
             | "the" [ "only" ] phrase [ "in the" PLACE ] ( "is" PATTERN | "has" marks )
             | ( "there are" | "I see" ) MARKS "on the" phrase [ "in the" PLACE ]
    thing    = a phrase with PATTERN before its noun or one of its adjectives
    marks    = MARKS | "a" PATTERN "pattern"

"Because" may be left out: whoever sees patterns shall not fail for the form.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping

from illume_plugin.embedded.claims import Claim, Patterned
from illume_plugin.embedded.grammar import (
    COLORED,
    NOUN,
    PHRASE,
    PLACE,
    SIZED,
    Clauses,
    Found,
    normalise,
    parse,
    read_phrase,
)
from illume_plugin.embedded.phrases import with_article
from illume_plugin.embedded.questions import Pattern
from illume_plugin.embedded.scene import PATTERNS, PLACES, Scene

#: pattern -> what it consists of.
MARKS: Mapping[str, str] = {"striped": "stripes", "dotted": "dots", "checked": "checks"}
_PATTERN_OF = {word: pattern for pattern, marks in MARKS.items() for word in (pattern, marks)}

_PATTERN = f"(?:{'|'.join(PATTERNS)})"
_MARKS = f"(?:{'|'.join(MARKS.values())})"
_THING = f"(?:{_PATTERN} {SIZED}{COLORED}|{SIZED}{_PATTERN} {COLORED}|{SIZED}{COLORED}{_PATTERN} ){NOUN}"
_SAID = f"(?:is {_PATTERN}|has {_MARKS}|has an? {_PATTERN} pattern)"
_IN = rf"in the (?P<place>{PLACE})"


def parse_patterns(rationale: str) -> tuple[Claim, ...] | None:
    """The claims of a rationale, patterns included, or None where the grammar does not produce it."""
    return parse(f"because {normalise(rationale).removeprefix('because ')}", _CLAUSES)


def _reader(*, alone: bool) -> Callable[[Found], Claim]:
    """How to read a clause that says one word of a pattern; `alone` as in the claim."""

    def read(found: Found) -> Patterned:
        (pattern,) = {_PATTERN_OF[word] for word in found[0].split() if word in _PATTERN_OF}
        place = PLACES.index(found["place"]) if found["place"] else None
        return Patterned(read_phrase(found["phrase"]), pattern, place, alone)

    return read


_A_THING, _THE_THING = _reader(alone=False), _reader(alone=True)

_CLAUSES: Clauses = tuple(
    (re.compile(pattern), read)
    for pattern, read in (
        (rf"(?:there is|i see) an? (?P<phrase>{_THING})(?: {_IN})?", _A_THING),
        (rf"(?:an?|the) (?P<phrase>{_THING}) is {_IN}", _A_THING),
        (rf"the object {_IN} is an? (?P<phrase>{_THING})", _A_THING),
        (rf"the (?:only )?(?P<phrase>{PHRASE})(?: {_IN})? {_SAID}", _THE_THING),
        (rf"(?:there are|i see) {_MARKS} on the (?P<phrase>{PHRASE})(?: {_IN})?", _THE_THING),
    )
)


def write_pattern(scene: Scene, question: Pattern, rng: random.Random) -> str:
    """A clause that states the pattern of the thing that the question is about, in one of the ways above."""
    (thing,) = question.phrase.among(scene)
    named, pattern, place = question.phrase.singular, thing.pattern, f"in the {PLACES[thing.place]}"
    patterned = with_article(f"{pattern} {named}")
    the = rng.choice((f"the {named}", f"the {named} {place}"))
    return rng.choice(
        (
            f"the object {place} is {patterned}",
            f"{patterned} is {place}",
            f"{rng.choice(('there is', 'I see'))} {patterned} {place}",
            f"{the} is {pattern}",
            f"{the} has {rng.choice((MARKS[pattern], f'a {pattern} pattern'))}",
            f"{rng.choice(('there are', 'I see'))} {MARKS[pattern]} on {the}",
        )
    )
