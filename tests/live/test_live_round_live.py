"""A wish on a real Label Studio's page: new candidates of the embedded model come while one looks at it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

import label_config
from backend.service import Service
from backend.simulate.world import labelled_tasks
from backend.worker import Worker
from illume_plugin.embedded import draw
from illume_plugin.labelstudio import LabelStudio
from illume_plugin.store import judgements
from illume_plugin.types import Preference, Verdict
from live.conftest import LiveLabelStudio
from live.test_connect_live import connect
from live.test_loop_live import (
    Labeller,
    page,  # noqa: F401 - a fixture
    picture_of_page,
    wait_for_page,
)
from live.test_trial_live import annotator, sample_and_push

pytestmark = [pytest.mark.live, pytest.mark.torch, pytest.mark.timeout(600)]

WISH = "say where the objects are"
CRITIQUE = "some name things that are not there"


@pytest.fixture
def project_id(served: Service, door: LabelStudio, label_studio: LiveLabelStudio, tmp_path: Path) -> int:
    """A connected project with full.xml and the embedded model's candidates of two tasks."""
    served.engine._generator = None
    folder = label_studio.document_root / f"wishes-{tmp_path.name}"
    folder.mkdir(parents=True)
    number = door.create_project("with wishes", label_config.read("full")).project_id
    door.create_local_storage(number, str(folder), "wishes")
    tasks = []
    for name, task in labelled_tasks(3, tasks=2, iteration=1).items():
        draw(task.scene, px=480).save(folder / f"{name}.png")
        image = f"/data/local-files/?d={folder.name}/{name}.png"
        tasks.append({"image": image, "question": task.question_text, "answer": task.answer, "scene": name})
    door.import_tasks(number, tasks)
    connect(served, door, number)
    sample_and_push(served, number)
    return number


def texts_on(page: Page) -> list[str]:  # noqa: F811
    return [text.strip() for text in page.locator(".il-c .lsf-row p").all_inner_texts()]


def write(page: Page, name: str, text: str) -> None:  # noqa: F811
    box = page.locator(f".il-{name} [data-testid=textarea-form] :is(input, textarea)").first
    box.fill(text)
    box.press("Enter")


def answers(page: Page, count: int) -> bool:  # noqa: F811
    """Whether so many wishes have their row in the (hidden) log."""
    return page.locator(".il-log .lsf-row").count() >= count


def preferences(service: Service, project_id: int) -> Sequence[Preference]:
    worker = Worker(service)
    while worker._round():
        pass
    with service.store.read() as conn:
        return judgements.preferences_in(conn, project_id)


def test_a_wish_brings_new_candidates_and_is_learnt_from(
    served: Service,
    label_studio: LiveLabelStudio,
    project_id: int,
    page: Page,  # noqa: F811
    tmp_path: Path,
) -> None:
    labeller: Labeller = annotator(page, label_studio, project_id)
    first = labeller.look()
    labeller.tick([1, 2])
    page.keyboard.press("w")  # the star of the second row
    page.get_by_text("Criticise and let the model try again").click()
    write(page, "crit", CRITIQUE)
    write(page, "ref", WISH)
    wait_for_page(page, lambda: answers(page, 1))
    wait_for_page(page, lambda: texts_on(page) != first.texts)
    second = texts_on(page)
    assert second[:2] == first.texts[:2], "what is ticked stays"
    assert labeller.ticked() == [1, 2]
    assert page.locator(".il-b input:checked").count() == 1, "the star stays, too"
    assert len(second) > 2
    assert not set(second[2:]) & set(first.texts), "the others are new"
    picture_of_page(page, "live-round.png", tmp_path)

    page.locator(".il-qa").click()  # out of the text field: keys tick again
    page.keyboard.press("3")
    wait_for_page(page, lambda: labeller.ticked() == [1, 2, 3])
    labeller.submit()
    after = labeller.look(after=first.task_id)
    assert labeller.ticked() == []
    assert len(after.texts) >= 2, (
        "the next task has its own candidates: the call after a submit changed nothing"
    )
    assert not answers(page, 1)

    said: dict[str, Any] = {each.text: each for each in preferences(served, project_id)}
    assert said.keys() == {*first.texts, *second}
    fits = {text for text, each in said.items() if each.verdict is Verdict.FITS}
    assert fits == set(second[:3])
    assert {said[text].turn for text in first.texts} == {1}
    assert {said[text].position for text in first.texts} == set(range(1, len(first.texts) + 1))
    assert all(said[text].critique == CRITIQUE for text in first.texts[2:])
    assert said[first.texts[1]].best
    for text in second[2:]:
        told = said[text]
        assert (told.turn, told.refinement, told.before) == (2, WISH, first.texts[2])
        assert told.version == "v0000"


def test_a_wish_that_cannot_be_answered_says_so(
    served: Service,
    label_studio: LiveLabelStudio,
    project_id: int,
    page: Page,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    labeller = annotator(page, label_studio, project_id)
    first = labeller.look()
    generator: Any = served.engine.generator()

    def fail(*_: Any, **__: Any) -> Any:
        from illume_plugin.errors import UnavailableError

        raise UnavailableError("The model is away.", todo="Wait.")

    with monkeypatch.context() as patched:
        patched.setattr(type(generator), "draw", fail)
        page.get_by_text("Criticise and let the model try again").click()
        write(page, "ref", WISH)
        page.get_by_text("The model could not answer").wait_for()
    assert texts_on(page) == first.texts
    write(page, "ref", "try again")
    wait_for_page(page, lambda: texts_on(page) != first.texts)
    page.get_by_text("The model could not answer").wait_for(state="hidden")
    assert not set(texts_on(page)) & set(first.texts)
