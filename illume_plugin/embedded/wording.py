"""How the world's words go together: articles and noun phrases, for questions and rationales alike."""

from __future__ import annotations

from collections.abc import Collection

from illume_plugin.embedded.scene import Attribute, Thing


def with_article(words: str) -> str:
    """`a red circle`, `an object`."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def as_predicate(attribute: Attribute, value: str) -> str:
    """What stands after "is": `red`, `large`, but `a circle`."""
    return with_article(value) if attribute is Attribute.SHAPE else value


def noun_phrase(thing: Thing, named: Collection[Attribute]) -> str:
    """The thing by the named attributes, in the order size, color, shape: `large red object`."""
    words = [thing.value(a) for a in (Attribute.SIZE, Attribute.COLOR) if a in named]
    return " ".join([*words, thing.shape if Attribute.SHAPE in named else "object"])
