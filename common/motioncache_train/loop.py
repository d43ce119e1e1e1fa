"""The training loop of all parts: Muon and AdamW, averaged weights, checkpoints, a log and its plot."""

import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from motioncache.errors import MotionCacheError
from motioncache.whole_file import whole_file

logger = logging.getLogger(__name__)

Losses = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """How long and how fast to train.

    The learning rate rises over the share `warmup` of the steps, stays at its peak until the share `decay_from`, and
    then falls linearly to zero; in our experiments the fall gave most of the last gain.
    """

    folder: Path
    steps: int
    peak_lr: float
    adam_lr: float
    seed: int = 0
    warmup: float = 0.02
    decay_from: float = 0.35
    ema_decay: float = 0.998
    log_every: int = 20
    validate_every: int = 200
    checkpoint_every: int = 200
    device: str = "cpu"
    compile: bool = False

    def learning_rate(self, step: int) -> float:
        """Compute the learning rate at `step` as a share of its peak."""
        progress = step / self.steps
        if progress < self.warmup:
            return (step + 1) / max(self.warmup * self.steps, 1)
        if progress < self.decay_from:
            return 1.0
        return max((1 - progress) / (1 - self.decay_from), 0.0)

    def is_due(self, done: int, every: int) -> bool:
        """Say whether something that happens every `every` steps, and at the end, is due after `done` steps."""
        return done % every == 0 or done == self.steps


class MatrixOptimizer:
    """Muon for weights with two or more dimensions (a convolution counts as a matrix), and AdamW for all others.

    Muon's own recipe gives embeddings, the first layer and the last layer to AdamW: name them in `vectors`.
    """

    def __init__(self, model: nn.Module, config: TrainConfig, vectors: tuple[str, ...]) -> None:
        parameters = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        self._matrices = [p for name, p in parameters if p.ndim >= 2 and not name.startswith(vectors)]
        others = [p for name, p in parameters if p.ndim < 2 or name.startswith(vectors)]
        # torch's Muon accepts matrices only, so it gets flat views that share storage with the real weights.
        self._flat = [nn.Parameter(p.data.view(len(p), -1)) for p in self._matrices]
        self.muon = torch.optim.Muon(self._flat, lr=config.peak_lr, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
        self.adam = torch.optim.AdamW(others, lr=config.adam_lr, betas=(0.9, 0.98), weight_decay=0.0)
        self._peaks = (config.peak_lr, config.adam_lr)

    def step(self, scale: float) -> None:
        for optimizer, peak in zip((self.muon, self.adam), self._peaks, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = peak * scale
        for flat, weight in zip(self._flat, self._matrices, strict=True):
            flat.grad = None if weight.grad is None else weight.grad.view_as(flat)
        self.muon.step()
        self.adam.step()
        for weight in self._matrices:
            weight.grad = None
        self.adam.zero_grad()

    def state_dict(self) -> dict[str, object]:
        return {"muon": self.muon.state_dict(), "adam": self.adam.state_dict()}

    def load_state_dict(self, state: dict[str, dict[str, object]]) -> None:
        self.muon.load_state_dict(state["muon"])
        self.adam.load_state_dict(state["adam"])


class Means:
    """Collects losses, and gives their means since they were last taken; a loss may be missing at some steps."""

    def __init__(self) -> None:
        self._values: dict[str, list[torch.Tensor]] = {}

    def add(self, losses: Losses) -> None:
        for name, value in losses.items():
            self._values.setdefault(name, []).append(value.detach())

    def take(self) -> dict[str, float]:
        means = {name: torch.stack(values).mean().item() for name, values in self._values.items()}
        self._values = {}
        return means


def train(
    model: nn.Module,
    config: TrainConfig,
    *,
    loss: Callable[[int], Losses],
    validate: Callable[[nn.Module], dict[str, float]],
    vectors: tuple[str, ...] = (),
    compiled: Iterable[nn.Module] = (),
    clip_grad: float = 1.0,
) -> nn.Module:
    """Train `model` and return a model with the averaged weights.

    A checkpoint in `config.folder` is resumed; the log and its plot are written beside it.

    Args:
        loss: returns the losses of a step; the one named "loss" is minimised. All randomness must come from the number
            of the step, so that a resumed run sees the very data that an uninterrupted one would have seen.
        validate: returns figures of the averaged model, for the log.
        vectors: prefixes of the names of weights that AdamW takes even though they are matrices.
        compiled: parts of the model that are compiled if `config.compile` is set.
        clip_grad: largest norm of the gradients; longer ones are shortened to it.

    Raises:
        FloatingPointError: if a gradient is infinite or no number.
    """
    run = _Run(model, config, vectors)
    for module in compiled if config.compile else ():
        module.compile(dynamic=False)
    for step in tqdm(range(run.first, config.steps), initial=run.first, total=config.steps, mininterval=10):
        run.update(loss(step), step, clip_grad)
        done = step + 1
        run.log(done, validate)
        if config.is_due(done, config.checkpoint_every):
            run.save(done)
            plot_log(config.folder)
    return run.average.module


class _Run:
    """A model in training, with all that a checkpoint holds.

    Attributes:
        average: the model with averaged weights.
        first: the first step that is still to do.
    """

    def __init__(self, model: nn.Module, config: TrainConfig, vectors: tuple[str, ...]) -> None:
        config.folder.mkdir(parents=True, exist_ok=True)
        self._log_path = config.folder / "log.jsonl"
        self._log_path.touch()
        self._checkpoint = config.folder / "checkpoint.pt"
        self._model = model
        self._config = config
        self._optimizer = MatrixOptimizer(model, config, vectors)
        self._means = Means()
        self.average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay))
        self.first, minutes = _resume(self._checkpoint, model, self.average, self._optimizer)
        self._started = time.monotonic() - 60 * minutes

    def update(self, losses: Losses, step: int, clip_grad: float) -> None:
        """Make a step down the gradient of the loss."""
        losses["loss"].backward()
        norm = nn.utils.clip_grad_norm_(self._model.parameters(), clip_grad)
        if not torch.isfinite(norm):
            raise FloatingPointError(f"the gradient at step {step} is {norm.item()}; lower the learning rate")
        self._optimizer.step(self._config.learning_rate(step))
        self.average.update_parameters(self._model)
        self._means.add(losses)

    def log(self, done: int, validate: Callable[[nn.Module], dict[str, float]]) -> None:
        """Write the figures that are due after `done` steps as a line of the log, if there are any."""
        figures = self._means.take() if done % self._config.log_every == 0 else {}
        if self._config.is_due(done, self._config.validate_every):
            figures |= {f"validation_{name}": value for name, value in validate(self.average.module).items()}
        if figures:
            with self._log_path.open("a") as log:
                log.write(json.dumps({"step": done, "minutes": round(self._minutes(), 2), **figures}) + "\n")

    def save(self, done: int) -> None:
        """Write a checkpoint."""
        _save(self._checkpoint, self._model, self.average, self._optimizer, done, self._minutes())

    def _minutes(self) -> float:
        """Minutes of training so far, those before a resumption included."""
        return (time.monotonic() - self._started) / 60


def plot_log(folder: Path) -> None:
    """Plot every figure of `log.jsonl` over the steps, in `log.png`."""
    records = list(_read_log(folder / "log.jsonl"))
    names = sorted({name for record in records for name in record} - {"step", "minutes"})
    if not names:
        return
    figure = Figure(figsize=(7, 2.2 * len(names)), layout="constrained")
    axes = figure.subplots(len(names), 1, sharex=True, squeeze=False)
    for axis, name in zip(axes[:, 0], names, strict=True):
        with_figure = [record for record in records if name in record]
        steps = [record["step"] for record in with_figure]
        axis.plot(steps, [record[name] for record in with_figure], linewidth=0.9)
        axis.set_ylabel(name)
        axis.grid(alpha=0.3)
    axes[-1, 0].set_xlabel("step")
    figure.savefig(folder / "log.png", dpi=90)


def _read_log(path: Path) -> Iterator[dict[str, float]]:
    with path.open() as lines:
        for line in lines:
            yield json.loads(line)


def _save(
    path: Path, model: nn.Module, average: AveragedModel, optimizer: MatrixOptimizer, step: int, minutes: float
) -> None:
    state = {
        "model": model.state_dict(),
        "average": average.state_dict(),
        "optimizer": optimizer.state_dict(),
        "step": step,
        "minutes": minutes,
    }
    with whole_file(path) as temporary:
        torch.save(state, temporary)


def _resume(path: Path, model: nn.Module, average: AveragedModel, optimizer: MatrixOptimizer) -> tuple[int, float]:
    if not path.exists():
        return 0, 0.0
    try:
        state = torch.load(path, weights_only=True)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
    except Exception as error:  # torch raises errors of many kinds for files that it cannot read, and for other models
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise MotionCacheError(f"{path} cannot be resumed: {reason}; delete it to start anew") from None
    logger.info("resuming %s at step %d", path, state["step"])
    return state["step"], state["minutes"]
