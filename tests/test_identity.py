"""What counts as the same: these values are stored, so they are pinned."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from illume_plugin.identity import (
    canonical_json,
    content_bits,
    content_hash,
    content_hash_of_lists,
    storable,
    wording,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def test_canonical_json_is_pinned() -> None:
    assert canonical_json({"b": [1, 0.5, None], "a": "é"}) == b'{"a":"\\u00e9","b":[1,0.5,null]}'


@given(st.dictionaries(st.text(), st.lists(JSON, max_size=3), max_size=4))
def test_lists_are_hashed_item_by_item_to_the_same_value(value: dict[str, list[object]]) -> None:
    items = {name: iter(items) for name, items in value.items()}
    assert content_hash_of_lists(items) == content_hash(value)


def test_content_hash_is_pinned() -> None:
    # sha256 of the two bytes {}
    assert content_hash({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


@pytest.mark.parametrize(
    ("bits", "value"), [(64, 0x44136FA355B3678A), (53, 0x44136FA355B3678A >> 11), (4, 0x4)]
)
def test_content_bits_are_the_first_of_the_hash(bits: int, value: int) -> None:
    assert content_bits({}, bits) == value


@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_the_order_of_keys_does_not_count(value: dict[str, object]) -> None:
    backwards = dict(reversed(list(value.items())))
    assert content_hash(backwards) == content_hash(value)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("It is raining.", "it is  raining", True),
        ("a dog\nruns", "A dog runs !", True),
        ("caf\u00e9", "cafe\u0301", True),
        ("it is raining", "it rains", False),
        ("is it raining?", "is it raining", False),
        ("...", "", True),
    ],
)
def test_wording(one: str, other: str, same: bool) -> None:
    assert (wording(one) == wording(other)) is same


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("it rains", "it rains"),
        ("na\u00efve \U0001f415", "na\u00efve \U0001f415"),
        ("a\x00b", "a\ufffdb"),
        ("a\ud800b", "a?b"),
    ],
)
def test_storable(text: str, kept: str) -> None:
    assert storable(text) == kept
