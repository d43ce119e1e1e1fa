"""The engine: plan what to compute, let the model compute it, commit what came out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from motioncache.decision import Decision, Policy, Proposal, Request
from motioncache.grid import TokenGrid
from motioncache.state import ChunkState, StateStore
from motioncache.trace import Phase, Record, Trace, WindowShape


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One chunk of one CFG branch that an adapter brings to one model call.

    Attributes:
        kv_only: `Phase.prefix`, `Phase.finished` or `Phase.idle` for a pass that only writes keys and values; None to
            denoise.
        distance: see `Request`.
        attended: tokens in the range that this chunk attends to.
    """

    branch: str
    chunk: int
    iteration: int
    attended: int
    distance: float | torch.Tensor = 0.0
    kv_only: Phase | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A work with its decision: `due` is True for all tokens, False for none, or their int64 indices on the host."""

    work: Work
    request: Request
    proposal: Proposal
    decision: Decision

    @property
    def due(self) -> bool | torch.Tensor:
        return self.decision.due

    @property
    def computed(self) -> int:
        """Number of tokens that run through the blocks."""
        if isinstance(self.due, torch.Tensor):
            return len(self.due)
        return self.request.grid.tokens_per_chunk if self.due else 0

    def indices(self) -> torch.Tensor:
        """Indices of the due tokens within the chunk, int64 `[computed]`, on the host."""
        return self.due if isinstance(self.due, torch.Tensor) else torch.arange(self.computed)


class Engine:
    """Runs one policy over the windows of a video. One engine belongs to one pipeline.

    A window's states live from `start_window` to `end_window` in a store of their own: reset means that it is dropped.

    `observer`, if set, sees every task after its commit with the chunk's state.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.trace = Trace()
        self.observer: Callable[[Task, ChunkState], None] | None = None
        self._store: StateStore | None = None
        self._carried: StateStore | None = None
        self._shape: WindowShape | None = None

    def start_video(self) -> None:
        """Forget the last video."""
        self.trace = Trace()
        self.drop()

    def start_window(self, shape: WindowShape) -> None:
        """Begin a window with a new store, in which only what the policy carries over is known."""
        self._store, self._carried = self._carried or StateStore(), None
        self._shape = shape
        self.trace.windows.append(shape)

    def end_window(self) -> None:
        """Free the states of the window, except for what the policy carries over to the next."""
        if self._store is None:
            return
        self._carried = StateStore()
        for (branch, chunk), state in self._store.items():
            memory = self.policy.carry(state.memory)
            if memory is not None:
                self._carried.get(branch, chunk).memory = memory
        self._store = self._shape = None

    def drop(self) -> None:
        """Free all states; the trace stays."""
        self._store = self._carried = self._shape = None

    def plan(self, works: Sequence[Work]) -> list[Task]:
        """Decide for all chunks of a model call at once, with one transfer from the device at most."""
        requests = [self._request(work) for work in works]
        denoising = [i for i, work in enumerate(works) if work.kv_only is None]
        asked = [requests[i] for i in denoising]
        proposed = self.policy.propose(asked)
        settled = self.policy.settle(asked, proposed, _to_host([p.due for p in proposed]))
        tasks: list[Task] = []
        answers = dict(zip(denoising, zip(proposed, settled, strict=True), strict=True))
        for i, (work, request) in enumerate(zip(works, requests, strict=True)):
            proposal, decision = answers.get(i) or _compute_all(work, request.grid)
            tasks.append(Task(work=work, request=request, proposal=proposal, decision=decision))
        return tasks

    def commit(
        self,
        task: Task,
        embedded: torch.Tensor,
        computed: torch.Tensor,
        *,
        moved: Callable[[torch.Tensor], torch.Tensor] = lambda hidden: hidden,
        recorded: Task | None = None,
    ) -> torch.Tensor:
        """Take in what the model computed and return the whole chunk after the blocks.

        Tasks of one model call have to be committed in the order of their chunks.

        Args:
            embedded: the chunk before the blocks, `[batch, tokens_per_chunk, channels]`.
            computed: the due tokens after the blocks, `[batch, task.computed, channels]`.
            moved: turns the chunk after the blocks into what the policy measures motion on, where that is another.
            recorded: what the trace says was computed, where that is another than what is taken in.
        """
        work, state = task.work, self._state(task.work)
        hidden = self._scatter(task, state, embedded, computed)
        if work.kv_only is None:
            predecessor = self._states.get(work.branch, work.chunk - 1).memory if work.chunk > 0 else None
            state.memory = self.policy.remember(task.request, task.proposal, task.decision, moved(hidden), predecessor)
            state.step += 1
        elif work.kv_only is Phase.prefix:
            state.memory = self.policy.adopt(hidden, task.request.grid) or state.memory
        else:
            state.residuals = ()  # a finished chunk is never denoised again, and one to come has none
        self.trace.records.append(self._record(recorded or task))
        if self.observer is not None:
            self.observer(task, state)
        return hidden

    def inherit(self, branch: str, chunk: int, source: int) -> None:
        """Give a chunk what another one of its branch has kept."""
        own, other = self._states.get(branch, chunk), self._states.get(branch, source)
        own.residuals, own.memory = other.residuals, other.memory

    def follow(self, task: Task, *, branch: str, computed: int, attended: int) -> None:
        """Record that another branch of guidance computed tokens of a task's chunk along with it."""
        phase = task.work.kv_only or Phase.guidance
        record = self._record(task)
        self.trace.records.append(
            replace(record, branch=branch, phase=phase, computed=computed, attended=attended, due=None)
        )

    def _scatter(self, task: Task, state: ChunkState, embedded: torch.Tensor, computed: torch.Tensor) -> torch.Tensor:
        """hidden = embedded + residual, with the due rows replaced by what was computed."""
        if task.due is True:
            if self.policy.kept and task.work.kv_only is None:
                state.residuals = (computed - embedded, *state.residuals)[: self.policy.kept]
            return computed
        if state.residual is None:
            raise RuntimeError(
                f"chunk {task.work.chunk} ({task.work.branch}) has no residual to reuse at step {task.request.step}: "
                "the policy has to compute a chunk's first step in full"
            )
        hidden = embedded + _combine(state.residuals, task.proposal.coefficients)
        if isinstance(task.due, torch.Tensor):
            rows = task.due.to(embedded.device, non_blocking=True)
            hidden.index_copy_(1, rows, computed)
            state.residual.index_copy_(1, rows, computed - embedded.index_select(1, rows))
        return hidden

    def _request(self, work: Work) -> Request:
        state = self._state(work)
        assert self._shape is not None
        return Request(
            branch=work.branch,
            chunk=work.chunk,
            iteration=work.iteration,
            iterations=self._shape.iterations,
            step=state.step,
            distance=work.distance,
            grid=self._shape.grid,
            memory=state.memory,
        )

    def _state(self, work: Work) -> ChunkState:
        return self._states.get(work.branch, work.chunk)

    @property
    def _states(self) -> StateStore:
        if self._store is None:
            raise RuntimeError("the engine has no window: call start_window first")
        return self._store

    def _record(self, task: Task) -> Record:
        work = task.work
        return Record(
            window=len(self.trace.windows) - 1,
            iteration=work.iteration,
            chunk=work.chunk,
            branch=work.branch,
            step=-1 if work.kv_only else task.request.step,
            phase=task.decision.phase,
            tokens=task.request.grid.tokens_per_chunk,
            candidates=task.decision.candidates,
            computed=task.computed,
            attended=work.attended,
            due=task.due if isinstance(task.due, torch.Tensor) else None,
        )


def _compute_all(work: Work, grid: TokenGrid) -> tuple[Proposal, Decision]:
    phase = work.kv_only or Phase.uncached
    return (
        Proposal(phase=phase, due=True),
        Decision(phase=phase, due=True, candidates=grid.tokens_per_chunk),
    )


def _combine(residuals: Sequence[torch.Tensor], coefficients: Sequence[float]) -> torch.Tensor:
    """Sum of residuals, each times its coefficient."""
    if coefficients == (1.0,):
        return residuals[0]
    combined = residuals[0] * coefficients[0]
    for residual, coefficient in zip(residuals[1:], coefficients[1:], strict=False):
        combined = combined + residual * coefficient
    return combined


def _to_host(proposed: Sequence[bool | torch.Tensor]) -> list[torch.Tensor | None]:
    """Bring all masks to the host in one transfer, the only wait of a model call."""
    masks = [due for due in proposed if isinstance(due, torch.Tensor)]
    if not masks:
        return [None] * len(proposed)
    on_host = iter(torch.stack(masks).cpu())
    return [next(on_host) if isinstance(due, torch.Tensor) else None for due in proposed]
