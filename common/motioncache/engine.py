"""The engine: decide what to compute, let the model compute it, complete the chunk with what is reused, commit."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from motioncache.decision import Call, ChunkState, Decision
from motioncache.policies.policy import Policy
from motioncache.probe import Probe
from motioncache.record import Phase, Record, WindowShape
from motioncache.trace import Trace


class Engine:
    """Runs one policy over the windows of a video. One engine belongs to one pipeline.

    For each model call: `decide`, run the due tokens, and for each chunk in order `complete` and `commit`.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.trace = Trace()
        self.probe: Probe | None = None
        self._states: dict[tuple[str, int], ChunkState] = {}
        self._window: WindowShape | None = None

    def start_video(self) -> None:
        """Forget the last video."""
        self.trace = Trace()
        self.drop()

    def start_window(self, window: WindowShape) -> None:
        """Begin a window in which nothing is known yet."""
        self.end_window()
        self._window = window
        self.trace.windows.append(window)
        if self.probe is not None:
            self.probe.window_started(window)

    def end_window(self) -> None:
        """Free what belongs to the window."""
        self._states = {}
        self._window = None

    def drop(self) -> None:
        """Free all that belongs to the video; the trace stays."""
        self.end_window()

    def state(self, branch: str, chunk: int) -> ChunkState:
        """The state of a chunk in a CFG branch, a fresh one if it has not been seen."""
        return self._states.setdefault((branch, chunk), ChunkState())

    def decide(self, calls: Sequence[Call]) -> list[Decision]:
        """Decide for all chunks of a model call, with one transfer from the device at most."""
        window = self.window
        denoising = [call for call in calls if call.kv_only is None]
        memories = [self.state(call.branch, call.chunk).memory for call in denoising]
        decided = to_host(self.policy.decide(denoising, memories, window))
        for_keys = [Decision(call=call, phase=call.kv_only, due=True) for call in calls if call.kv_only is not None]
        by_place = {(d.call.branch, d.call.chunk): d for d in [*decided, *for_keys]}
        return [by_place[call.branch, call.chunk] for call in calls]

    def see_before(self, branch: str, hidden: torch.Tensor) -> None:
        """Let the policy see what precedes a window whose chunks do not hold it.

        Args:
            hidden: latent frames after the blocks, `[batch, tokens, channels]`.
        """
        self.state(branch, -1).memory = self.policy.remember_prefix(hidden, self.window)

    def complete(self, decision: Decision, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        """The whole chunk after the blocks: computed rows as they came out, all others from the kept outputs.

        Args:
            before: the chunk before the blocks, `[batch, tokens, channels]`.
            after: the due tokens after the blocks, `[batch, decision.computed, channels]`.
        """
        call, history = decision.call, self.policy.history
        if self.probe is not None:
            after = self.probe.computed(decision, before, after)
        state = self.state(call.branch, call.chunk)
        if decision.due is True:
            if history and call.kv_only is None:
                self._keep(decision, after - before, state)
            return after
        if not state.outputs:
            raise RuntimeError(
                f"chunk {call.chunk} ({call.branch}) has no output to reuse at step {call.step}: "
                "the policy has to compute a chunk's first step in full"
            )
        hidden = before + _combine(state.outputs, decision.coefficients)
        if isinstance(decision.due, torch.Tensor):
            rows = decision.indices_on(before.device)
            hidden.index_copy_(1, rows, after)
            state.outputs[0].index_copy_(1, rows, after - before.index_select(1, rows))
        return hidden

    def _keep(self, decision: Decision, output: torch.Tensor, state: ChunkState) -> None:
        """Keep an output that was computed whole, once the policy has seen it."""
        error = self.policy.observe(decision, output, state.outputs)
        if error is not None:
            self.trace.errors.append(error)
        state.outputs = (output, *state.outputs)[: self.policy.history]

    def commit(self, decision: Decision, hidden: torch.Tensor) -> None:
        """Remember a completed chunk and record what was done; chunks of one model call come in their order.

        Args:
            hidden: the whole chunk, as the policy measures motion on it, `[batch, tokens, channels]`.
        """
        call, window = decision.call, self.window
        state = self.state(call.branch, call.chunk)
        if call.kv_only is None:
            predecessor = self.state(call.branch, call.chunk - 1).memory
            state.memory = self.policy.remember(decision, hidden, window, predecessor)
        elif call.kv_only is Phase.prefix:
            state.memory = self.policy.remember_prefix(hidden, window)
        else:
            state.outputs = ()  # a finished chunk is never denoised again, and an idle one has none
        self.record(decision)
        if self.probe is not None:
            self.probe.committed(decision, state)

    def record(self, decision: Decision) -> None:
        """Add what was done to the trace."""
        call = decision.call
        self.trace.records.append(
            Record(
                window=len(self.trace.windows) - 1,
                iteration=call.iteration,
                chunk=call.chunk,
                branch=call.branch,
                step=call.step,
                phase=decision.phase,
                tokens=call.tokens,
                candidates=decision.candidates if isinstance(decision.candidates, int) else decision.computed,
                computed=decision.computed,
                attended=call.attended,
                due=decision.due if isinstance(decision.due, torch.Tensor) else None,
            )
        )

    @property
    def is_idle(self) -> bool:
        """Whether nothing is remembered: no window is being sampled."""
        return self._window is None and not self._states

    @property
    def window(self) -> WindowShape:
        """The window that is being sampled."""
        if self._window is None:
            raise RuntimeError("the engine has no window: call start_window first")
        return self._window


def _combine(outputs: Sequence[torch.Tensor], coefficients: Sequence[float]) -> torch.Tensor:
    """Sum of outputs, each times its coefficient."""
    if len(coefficients) == 1 and coefficients[0] == 1.0:
        return outputs[0]
    combined = outputs[0] * coefficients[0]
    for output, coefficient in zip(outputs[1:], coefficients[1:], strict=False):
        combined = combined + output * coefficient
    return combined


def to_host(decisions: Sequence[Decision]) -> list[Decision]:
    """Turn all masks into indices and counts; those on a device come over in one transfer, the only wait of a call."""
    masks = {id(m): m for d in decisions for m in (d.due, d.candidates) if isinstance(m, torch.Tensor)}
    for device in {mask.device for mask in masks.values()}:  # a policy may have decided a part of them on the host
        there = {key: mask for key, mask in masks.items() if mask.device == device}
        masks |= zip(there, torch.stack(list(there.values())).cpu(), strict=True)
    return [_with_indices(d, masks) if isinstance(d.due, torch.Tensor) else d for d in decisions]


def _with_indices(decision: Decision, on_host: dict[int, torch.Tensor]) -> Decision:
    mask = decision.due
    assert isinstance(mask, torch.Tensor)
    indices = on_host[id(mask)].nonzero().flatten()
    candidates = len(indices) if decision.candidates is None else len(on_host[id(decision.candidates)].nonzero())
    if not 0 < len(indices) < decision.call.tokens:
        return replace(decision, due=len(indices) > 0, candidates=candidates)
    rows = mask.nonzero_static(size=len(indices)).flatten()  # on the device of the mask, without a wait
    return replace(decision, due=indices, rows=rows, candidates=candidates)
