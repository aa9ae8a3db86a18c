"""Reads the sentences of rationales.

Grammar, after "Because" and without the final full stop; case does not matter:

    sentence = clause { ( "," | "and" | "but only" ) clause }
    clause   = ( "there is" | "I see" ) article phrase "in the" PLACE          claims.Stands
             | article phrase "is in the" PLACE                                claims.Stands
             | "the" phrase "in the" PLACE "is" ( value | article phrase )     claims.Stands
             | "the" [ "only" ] phrase ( "is" | "are" ) "in the" PLACE         claims.Where
             | ( "there is" | "I see" ) "one in the" PLACE                     claims.Ones
             | ( "there is" | "there are" | "I see" ) NUMBER phrase            claims.Number
             | "the" [ "only" ] phrase ( "is" | "are" ) value                  claims.Values
             | "the only" ATTRIBUTE ( "is" | "s are" ) value                   claims.Values
    phrase   = [ SIZE ] [ COLOR ] ( SHAPE | "object" )

A clause may leave out the words that it shares with the clause before: "there is one in the center and one
in the top left", "the circles are red and blue".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from illume_plugin.embedded.claims import Claim, Number, Ones, Stands, Values, Where
from illume_plugin.embedded.phrases import NUMBERS, Phrase
from illume_plugin.embedded.scene import PLACES, VALUES, Attribute

PLACE = "|".join(PLACES)
_VALUE_OF = {value: attribute for attribute, values in VALUES.items() for value in values}
_SIZE, _COLOR, _SHAPE = ("|".join(VALUES[a]) for a in (Attribute.SIZE, Attribute.COLOR, Attribute.SHAPE))
SIZED, COLORED, NOUN = rf"(?:(?:{_SIZE}) )?", rf"(?:(?:{_COLOR}) )?", rf"(?:{_SHAPE}|object)"
PHRASE = f"{SIZED}{COLORED}{NOUN}"
_NUMBER = "|".join(("no", *NUMBERS[1:]))
_VALUE = rf"(?:{_SIZE}|{_COLOR}|an? (?:{_SHAPE})|(?:{_SHAPE})s)"

Found = re.Match[str]
#: What a clause can look like, and how to read the claim from it; the first that matches counts.
Clauses = Sequence[tuple[re.Pattern[str], Callable[[Found], Claim]]]


def normalise(text: str) -> str:
    """Lower case, single blanks, no final full stop."""
    return " ".join(text.lower().split()).removesuffix(".").rstrip()


def parse(rationale: str, more: Clauses = ()) -> tuple[Claim, ...] | None:
    """The claims of a rationale in the order they stand, or None where the grammar does not produce it.

    Args:
        more: clauses that the grammar above does not have.
    """
    words = normalise(rationale)
    sentence = words.removeprefix("because ")
    if sentence == words:
        return None
    claims: list[Claim] = []
    for clause in re.split(r", | and | but only ", sentence):
        if not (_read_full(clause, claims, (*_FULL, *more)) or _read_short(clause, claims)):
            return None
    return tuple(claims)


def _read_full(clause: str, claims: list[Claim], known: Clauses) -> bool:
    """Append what a clause that stands on its own claims."""
    for pattern, read in known:
        if (found := pattern.fullmatch(clause)) is not None:
            claims.append(read(found))
            return True
    return False


def _read_short(clause: str, claims: list[Claim]) -> bool:
    """Append, or add to the claim before, what a clause with left-out words claims."""
    if not claims or type(claims[-1]) not in _SHORT:
        return False
    pattern, read = _SHORT[type(claims[-1])]
    found = pattern.fullmatch(clause)
    if found is None:
        return False
    read(found, claims)
    return True


def read_phrase(words: str) -> Phrase:
    """What a text that matches PHRASE names; words that the grammar does not know are passed over."""
    return Phrase(**{attribute.value: value for attribute, value in _values(words)})


def _values(words: str) -> tuple[tuple[Attribute, str], ...]:
    singular = (word if word in _VALUE_OF else word.removesuffix("s") for word in words.split())
    return tuple((_VALUE_OF[word], word) for word in singular if word in _VALUE_OF)


def _stands(found: Found) -> Stands:
    rest = found.groupdict().get("rest") or ""
    return Stands(PLACES.index(found["place"]), _values(f"{found['phrase']} {rest}"))


def _where(found: Found) -> Where:
    return Where(read_phrase(found["phrase"]), (PLACES.index(found["place"]),))


def _ones(found: Found) -> Ones:
    return Ones((PLACES.index(found["place"]),))


def _number(found: Found) -> Number:
    number = 0 if found["number"] == "no" else NUMBERS.index(found["number"])
    return Number(read_phrase(found["phrase"]), number)


def _said_values(found: Found) -> Values:
    ((attribute, value),) = _values(found["value"])
    return Values(read_phrase(found["phrase"]), attribute, (value,), alone=found["be"] == "is")


def _said_only(found: Found) -> Claim:
    ((attribute, value),) = _values(found["value"])
    # "The only colors are small" is read as a claim that never holds.
    return Values(Phrase(), attribute, (value,) if attribute == found["attribute"] else ())


_FULL: Clauses = tuple(
    (re.compile(pattern), read)
    for pattern, read in (
        (rf"(?:there is|i see) an? (?P<phrase>{PHRASE}) in the (?P<place>{PLACE})", _stands),
        (rf"an? (?P<phrase>{PHRASE}) is in the (?P<place>{PLACE})", _stands),
        (
            rf"the (?P<phrase>{PHRASE}) in the (?P<place>{PLACE}) is "
            rf"(?P<rest>{_COLOR}|{_SIZE}|an? {PHRASE})",
            _stands,
        ),
        (rf"the (?:only )?(?P<phrase>{PHRASE}) is in the (?P<place>{PLACE})", _where),
        (rf"the (?P<phrase>{PHRASE})s are in the (?P<place>{PLACE})", _where),
        (rf"(?:there is|i see) one in the (?P<place>{PLACE})", _ones),
        (rf"(?:there (?:is|are)|i see) (?P<number>{_NUMBER}) (?P<phrase>{PHRASE})s?", _number),
        (rf"the only (?P<phrase>{PHRASE}) (?P<be>is) (?P<value>{_VALUE})", _said_values),
        (rf"the (?P<phrase>{PHRASE})s (?P<be>are) (?P<value>{_VALUE})", _said_values),
        (rf"the only (?P<attribute>color|shape|size)(?: is|s are) (?P<value>{_VALUE})", _said_only),
    )
)


def _another_value(found: Found, claims: list[Claim]) -> None:
    before = claims.pop()
    assert isinstance(before, Values)  # noqa: S101
    ((attribute, value),) = _values(found["value"])
    values = (*before.values, value) if attribute is before.attribute else ()
    claims.append(Values(before.phrase, before.attribute, values, before.alone))


def _another_place(found: Found, claims: list[Claim]) -> None:
    before = claims.pop()
    places = (PLACES.index(found["place"]),)
    claims.append(
        Ones(before.places + places)
        if isinstance(before, Ones)
        else Where(before.phrase, before.places + places)  # type: ignore[union-attr]
    )


#: kind of the claim before -> how a clause that leaves words out goes on.
_SHORT: dict[type, tuple[re.Pattern[str], Callable[[Found, list[Claim]], None]]] = {
    Stands: (
        re.compile(rf"an? (?P<phrase>{PHRASE}) in the (?P<place>{PLACE})"),
        lambda found, claims: claims.append(_stands(found)),
    ),
    Where: (re.compile(rf"the (?P<place>{PLACE})"), _another_place),
    Ones: (re.compile(rf"one in the (?P<place>{PLACE})"), _another_place),
    Number: (
        re.compile(rf"(?P<number>{_NUMBER}) (?P<phrase>{PHRASE})s?"),
        lambda found, claims: claims.append(_number(found)),
    ),
    Values: (re.compile(rf"(?P<value>{_VALUE})"), _another_value),
}
