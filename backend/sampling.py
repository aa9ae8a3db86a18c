"""Candidates for tasks: from the store where they are there, else sampled, arranged and kept."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backend.adapters import LoadedAdapters
from backend.mixing import Proposed, mixed
from backend.settings import Settings
from illume_plugin.errors import IllumeError, TaskError, UnavailableError
from illume_plugin.fault_points import point
from illume_plugin.generation.generator import Generator, SampleRequest
from illume_plugin.generation.plan import SamplingPlan, SentenceSearch, Strategy, not_on_a_server
from illume_plugin.generation.stopping import never
from illume_plugin.identity import content_hash
from illume_plugin.images import ImageStore
from illume_plugin.label_config import LabelConfig, parse_label_config, read_task
from illume_plugin.predictions import arrange
from illume_plugin.proposals import Choice, Proposal, propose
from illume_plugin.registry import Registry
from illume_plugin.store import Store, candidates
from illume_plugin.trials import mixed_plan
from illume_plugin.types import CandidateSet, Project, Task, Wish
from illume_plugin.wishes import propose_for_wish

if TYPE_CHECKING:
    from illume_plugin.relevance import ImageTextEncoder

log = logging.getLogger(__name__)

#: Texts sampled at a time where the settings name no number.
ROWS_ON_CPU, ROWS_ON_GPU, ROWS_ON_SERVER = 120, 1000, 256


@dataclass(frozen=True, slots=True)
class Sampled:
    """What became of each task: a candidate set, or the reason why there is none."""

    sets: Mapping[int, CandidateSet]
    problems: Mapping[int, IllumeError]


def sampling_plan(settings: Settings) -> SamplingPlan:
    """The sampling plan that the settings ask for.

    Raises:
        SettingsError: they do not go together.
    """
    searching = settings.strategy is Strategy.SENTENCE_SEARCH
    if searching and settings.vllm_url:
        raise not_on_a_server()
    return SamplingPlan(
        temperatures=settings.temperatures,
        samples=settings.samples,
        max_new_tokens=settings.max_new_tokens,
        limit=settings.candidates,
        suffixes=settings.suffixes,
        search=_search(settings) if searching else None,
    )


def _search(settings: Settings) -> SentenceSearch:
    return SentenceSearch(
        sentences=settings.search_sentences,
        best=settings.search_best,
        worst=settings.search_worst,
        max_sentences=settings.search_max_sentences,
        relevance_weight=settings.relevance_weight,
    )


def choice_of(settings: Settings) -> Choice:
    """How the settings want candidates to be scored and chosen."""
    return Choice(
        limit=settings.candidates,
        relevance_weight=settings.relevance_weight,
        trade_off=settings.trade_off,
        blind=settings.score_blind,
    )


def base_model_source(settings: Settings) -> str:
    """Folder or hub id of the base model; 'embedded' names the one in the package."""
    if settings.base_model != "embedded":
        return settings.base_model
    from illume_plugin.embedded import base_model_path

    return str(base_model_path())


class Engine:
    """The process's one generator: the base model is loaded once, adapters beside each other."""

    def __init__(self, settings: Settings, registry: Registry) -> None:
        self.settings = settings
        self.registry = registry
        self._loading = threading.Lock()
        self._generator: Generator | None = None
        self._encoder: ImageTextEncoder | None = None
        self.adapters = LoadedAdapters(
            self.generator,
            registry,
            most=settings.adapters_loaded,
            quantization=None if settings.vllm_url else settings.quantization,
        )

    def warm_up(self) -> None:
        """Load the base model now, so that no caller has to wait for it."""
        self.generator()
        self.encoder()

    def encoder(self) -> ImageTextEncoder | None:
        """The image-text encoder, loaded on first use; None where the settings name none.

        Raises:
            ModelError: it cannot be loaded.
        """
        if not self.settings.relevance_model:
            return None
        with self._loading:
            if self._encoder is None:
                from illume_plugin.relevance import load_encoder

                self._encoder = load_encoder(
                    self.settings.relevance_model,
                    device=self.settings.device,
                    trust_remote_code=self.settings.trust_remote_code,
                )
            return self._encoder

    def generator(self) -> Generator:
        """The generator, loaded on first use (seconds for a small base model, minutes for a large one)."""
        with self._loading:
            if self._generator is None:
                self._generator = self._connect(url) if (url := self.settings.vllm_url) else self._load()
            return self._generator

    def _connect(self, url: str) -> Generator:
        """A generator on a vLLM server: this process loads prompts, no weights."""
        from illume_plugin.base_model import load_prompts
        from illume_plugin.generation.vllm import VllmClient
        from illume_plugin.generation.vllm.engine import VllmGenerator

        settings = self.settings
        key, theirs = settings.vllm_api_key, settings.vllm_adapters
        return VllmGenerator(
            VllmClient(url, api_key=key.get_secret_value() if key else ""),
            load_prompts(base_model_source(settings), trust_remote_code=settings.trust_remote_code),
            model=settings.vllm_model,
            rows=settings.sampling_rows or ROWS_ON_SERVER,
            reads=settings.vllm_reads,
            adapters=(self.registry.store.root, theirs) if theirs else None,
        )

    def _load(self) -> Generator:
        from transformers.utils.logging import disable_progress_bar

        from illume_plugin.base_model import load_base_model
        from illume_plugin.generation.engine import TransformersGenerator

        disable_progress_bar()  # it fills logs with half-drawn bars
        if self.settings.torch_threads:
            import torch

            torch.set_num_threads(self.settings.torch_threads)
        started = time.monotonic()
        base = load_base_model(
            base_model_source(self.settings),
            device=self.settings.device,
            dtype=self.settings.dtype,
            quantization=self.settings.quantization,
            trust_remote_code=self.settings.trust_remote_code,
        )
        log.info("loaded base model %s in %.1f s", base.source, time.monotonic() - started)
        usual = ROWS_ON_CPU if base.device.type == "cpu" else ROWS_ON_GPU
        return TransformersGenerator(base, rows=self.settings.sampling_rows or usual)


class Sampler:
    """Gives candidate sets for tasks of one project at a time."""

    def __init__(
        self,
        store: Store,
        engine: Engine,
        images: ImageStore,
        plan: SamplingPlan,
        choice: Choice | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.store = store
        self.engine = engine
        self.images = images
        self.plan = plan
        self.choice = choice or Choice()
        self.clock = clock

    def key(self, project: Project) -> str:
        """The plan that the project's candidate sets of this moment are kept under, beside the version.

        Label Studio hears of the active version only, so during a trial it is the plan that tells its sets
        from the active version's own.
        """
        challenger = project.challenger
        return self.plan.hash if challenger is None else mixed_plan(self.plan.hash, challenger)

    def stored(self, project: Project, task_ids: Sequence[int]) -> dict[int, CandidateSet]:
        """Candidate sets that are there already: of the active version, or of the trial that it is in."""
        version, plan = project.active_version, self.key(project)
        with self.store.read() as conn:
            return candidates.get(conn, project.project_id, task_ids, version=version, plan=plan)

    def sample(
        self,
        project: Project,
        data: Mapping[int, Mapping[str, Any]],
        *,
        keys: tuple[str, str],
        deadline: float | None = None,
        stop: Callable[[], bool] = never,
    ) -> Sampled:
        """Sample and keep candidates for tasks that have none.

        Args:
            data: task id -> task data.
            keys: keys of question and answer in the task data.
            deadline: on the monotonic clock; tasks not begun by then get an UnavailableError.
            stop: asked between two tokens. What is finished by then is kept.

        Raises:
            SamplingStopped: `stop` said so.
            LabelConfigError, ModelError: no task at all can be sampled.
        """
        config = parse_label_config(project.label_config, question_key=keys[0], answer_key=keys[1])
        sets: dict[int, CandidateSet] = {}
        problems: dict[int, IllumeError] = {}
        ids = list(data)
        at_a_time = max(1, self.engine.generator().rows // self.plan.size) if ids else 1
        for start in range(0, len(ids), at_a_time):
            chunk = ids[start : start + at_a_time]
            if deadline is not None and time.monotonic() > deadline:
                problems |= {task_id: too_late() for task_id in ids[start:]}
                break
            done, failed = self._chunk(project, config, {i: data[i] for i in chunk}, stop)
            sets |= done
            problems |= failed
        return Sampled(sets, problems)

    def sample_for_wish(
        self,
        project: Project,
        data: Mapping[int, Mapping[str, Any]],
        wish: Wish,
        *,
        keys: tuple[str, str],
        stop: Callable[[], bool] = never,
    ) -> Sampled:
        """Sample what an annotator asks for; a set without candidates says that there is nothing new.

        Nothing is kept: what is shown comes back inside the annotation, and the same wish gives the same
        candidates again. The active version alone draws, also during a trial.

        Raises:
            SamplingStopped: `stop` said so.
            LabelConfigError, ModelError: nothing can be sampled.
        """
        config = parse_label_config(project.label_config, question_key=keys[0], answer_key=keys[1])
        requests, problems = self._requests(project, config, data)
        limit = min(self.plan.limit, wish.rows)
        found, failed = self._by(
            project, project.active_version, requests, limit, stop, partial(propose_for_wish, wish=wish)
        )
        plan = content_hash(["wish", self.plan.hash, wish.round, wish.before, wish.text])
        sets = {
            request.task.task_id: arrange(
                proposal.chosen,
                project_id=project.project_id,
                task_id=request.task.task_id,
                version=project.active_version,
                plan=plan,
                dropped=proposal.dropped,
            )
            for request, proposal in found
        }
        _log_dropped(project.project_id, [proposal for _, proposal in found])
        return Sampled(sets, problems | failed)

    def _chunk(
        self,
        project: Project,
        config: LabelConfig,
        data: Mapping[int, Mapping[str, Any]],
        stop: Callable[[], bool],
    ) -> tuple[dict[int, CandidateSet], dict[int, IllumeError]]:
        requests, problems = self._requests(project, config, data)
        limit = min(self.plan.limit, config.slots)
        found, failed = self._proposed(project, requests, limit, stop)
        problems |= failed
        sets = {}
        for request, proposal in found:
            candidate_set = arrange(
                proposal.chosen,
                project_id=project.project_id,
                task_id=request.task.task_id,
                version=project.active_version,
                plan=self.key(project),
                dropped=proposal.dropped,
            )
            if candidate_set.candidates:
                sets[request.task.task_id] = candidate_set
            else:
                problems[request.task.task_id] = _nothing_usable(request.task, proposal.dropped)
        _log_dropped(project.project_id, [proposal for _, proposal in found])
        return self._keep(project, sets, problems), problems

    def _proposed(
        self, project: Project, requests: Sequence[SampleRequest], limit: int, stop: Callable[[], bool]
    ) -> tuple[list[Proposed], dict[int, IllumeError]]:
        """What is proposed for each task by the adapters that draw for the project, and why not."""
        found, failed = self._by(project, project.active_version, requests, limit, stop)
        if project.challenger is None or not found:
            return found, failed
        drawn = [request for request, _ in found]
        theirs, not_theirs = self._by(project, project.challenger, drawn, limit, stop)
        for task_id, problem in not_theirs.items():
            log.warning("task %d counts for no trial: %s", task_id, problem)
        return mixed(found, theirs, (project.active_version, project.challenger), limit), failed

    def _by(
        self,
        project: Project,
        version: str,
        requests: Sequence[SampleRequest],
        limit: int,
        stop: Callable[[], bool],
        how: Callable[..., Sequence[Proposal]] = propose,
    ) -> tuple[list[Proposed], dict[int, IllumeError]]:
        if not requests:
            return [], {}
        with self.engine.adapters.using(project.project_id, version) as adapter:
            return _each(
                requests,
                partial(
                    how,
                    self.engine.generator(),
                    plan=self.plan,
                    choice=replace(self.choice, limit=limit),
                    adapter=adapter,
                    encoder=self.engine.encoder(),
                    stop=stop,
                ),
            )

    def _requests(
        self, project: Project, config: LabelConfig, data: Mapping[int, Mapping[str, Any]]
    ) -> tuple[list[SampleRequest], dict[int, IllumeError]]:
        requests, problems = [], {}
        for task_id, fields in data.items():
            try:
                task = read_task(config, project.project_id, task_id, fields)
                requests.append(SampleRequest(task=task, image=self._picture(task)))
            except IllumeError as error:
                problems[task_id] = error
        return requests, problems

    def _picture(self, task: Task) -> Path:
        return self.images.fetch(task)

    def _keep(
        self, project: Project, sets: Mapping[int, CandidateSet], problems: Mapping[int, IllumeError]
    ) -> dict[int, CandidateSet]:
        now = self.clock()
        with self.store.write() as conn:
            for task_id, problem in problems.items():
                candidates.note_problem(
                    conn,
                    project.project_id,
                    task_id,
                    version=project.active_version,
                    problem=str(problem),
                    now=now,
                )
            kept = {task_id: candidates.put(conn, found, now=now) for task_id, found in sets.items()}
            point("candidates.before_commit")
        point("candidates.after_commit")
        return kept


def _each(
    requests: Sequence[SampleRequest], ask: Callable[[Sequence[SampleRequest]], Sequence[Proposal]]
) -> tuple[list[Proposed], dict[int, IllumeError]]:
    """What `ask` proposes for each task, and why not for the others: one bad task spoils no other's batch."""
    try:
        return list(zip(requests, ask(requests), strict=True)), {}
    except TaskError as error:
        if len(requests) == 1:
            return [], {requests[0].task.task_id: error}
    middle = len(requests) // 2
    first, second = _each(requests[:middle], ask), _each(requests[middle:], ask)
    return first[0] + second[0], first[1] | second[1]


def too_late() -> UnavailableError:
    return UnavailableError(
        "The time for this call was over before this task's turn came.",
        todo="Ask again, or let the worker sample ahead: illume presample",
    )


def _log_dropped(project_id: int, proposals: Sequence[Proposal]) -> None:
    total: Counter[str] = Counter()
    for proposal in proposals:
        total.update(proposal.dropped)
    log.info(
        "project %d: %d candidates for %d tasks; not shown: %s",
        project_id,
        sum(len(proposal.chosen) for proposal in proposals),
        len(proposals),
        _listed(total) or "none",
    )


def _listed(dropped: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in sorted(dropped.items()))


def _nothing_usable(task: Task, dropped: Mapping[str, int]) -> TaskError:
    return TaskError(
        f"Task {task.task_id}: the model gave no usable text ({_listed(dropped)}).",
        why="There is nothing to show.",
        todo="Raise ILLUME_MAX_NEW_TOKENS, or check that the prompt suits the base model.",
    )
