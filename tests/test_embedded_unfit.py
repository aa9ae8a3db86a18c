import random
from collections import Counter

import pytest

from illume_plugin.embedded import Reason, Split, check, make_tasks
from illume_plugin.embedded.unfit import Mix

TASKS = make_tasks(180, seed=1, split=Split.TRAIN)


def verdicts(mix: Mix) -> Counter[Reason]:
    rng = random.Random(0)
    return Counter(check(t.scene, t.question, t.answer, mix.draw(t, rng)).reason for t in TASKS)


@pytest.mark.parametrize(
    ("mix", "reasons"),
    [
        (Mix(1, 0, 0, 0), {Reason.OK}),
        (Mix(0, 1, 0, 0), {Reason.GENERIC}),
        (Mix(0, 0, 1, 0), {Reason.OK, Reason.FALSE, Reason.NO_SUPPORT}),
        (Mix(0, 0, 0, 1), {Reason.OK, Reason.NO_SUPPORT}),
    ],
)
def test_each_sort_is_what_it_says(mix: Mix, reasons: set[Reason]) -> None:
    assert set(verdicts(mix)) <= reasons


def test_what_is_written_for_another_picture_or_beside_the_point_seldom_fits() -> None:
    assert verdicts(Mix(0, 0, 1, 0))[Reason.OK] < len(TASKS) / 3
    assert verdicts(Mix(0, 0, 0, 1))[Reason.OK] < len(TASKS) / 5
