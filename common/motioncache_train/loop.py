"""The training loop that both parts share: Muon and AdamW, weight averaging, checkpoints, a log and its plot."""

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

logger = logging.getLogger(__name__)

Losses = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """How long and how fast to train.

    The learning rate rises over `warmup` of the steps, stays at its peak until `decay_from`, and falls linearly to
    zero: in the experiments the decay gave most of the last gain.
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
        """Share of the peak learning rate at `step`."""
        done = step / self.steps
        if done < self.warmup:
            return (step + 1) / max(self.warmup * self.steps, 1)
        if done < self.decay_from:
            return 1.0
        return max((1 - done) / (1 - self.decay_from), 0.0)


class MatrixOptimizer:
    """Muon for the weights with two or more dimensions (a convolution counts as a matrix), AdamW for all others.

    Embeddings, the first and the last layer belong to AdamW by Muon's own recipe: name them in `vectors`.
    """

    def __init__(self, model: nn.Module, config: TrainConfig, vectors: tuple[str, ...]) -> None:
        parameters = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        self._matrices = [p for name, p in parameters if p.ndim >= 2 and not name.startswith(vectors)]
        others = [p for name, p in parameters if p.ndim < 2 or name.startswith(vectors)]
        # torch's Muon takes matrices only: it steps on flat views that share storage with the real weights.
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
    """Means of losses since they were last taken; a loss need not come with every step."""

    def __init__(self) -> None:
        self._values: dict[str, list[torch.Tensor]] = {}

    def add(self, losses: Losses) -> None:
        for name, value in losses.items():
            self._values.setdefault(name, []).append(value.detach())

    def take(self) -> dict[str, float]:
        values, self._values = self._values, {}
        return {name: torch.stack(kept).mean().item() for name, kept in values.items()}


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
    """Train `model` and return its averaged weights.

    Args:
        loss: gives the losses of step `step`, `loss["loss"]` among them. All randomness must come from `step`, so that
            a resumed run sees the very data that an uninterrupted one would have seen.
        validate: figures of the averaged model, for the log.
        vectors: name prefixes of weights that AdamW takes even though they are matrices.
        compiled: parts of the model that `config.compile` compiles.

    A checkpoint in `config.folder` is resumed; the log and its plot are written beside it.
    """
    config.folder.mkdir(parents=True, exist_ok=True)
    optimizer = MatrixOptimizer(model, config, vectors)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay))
    for module in compiled if config.compile else ():
        module.compile(dynamic=False)
    checkpoint = config.folder / "checkpoint.pt"
    first, minutes = _resume(checkpoint, model, average, optimizer)
    started = time.monotonic() - 60 * minutes
    means = Means()
    with (config.folder / "log.jsonl").open("a") as log:
        for step in tqdm(range(first, config.steps), initial=first, total=config.steps, mininterval=10):
            losses = loss(step)
            losses["loss"].backward()
            norm = nn.utils.clip_grad_norm_(model.parameters(), clip_grad)
            if torch.isfinite(norm):
                optimizer.step(config.learning_rate(step))
            else:
                raise FloatingPointError(f"the gradient at step {step} is {norm.item()}; lower the learning rate")
            average.update_parameters(model)
            means.add(losses)
            record: dict[str, float] = {}
            done = step + 1
            if done % config.log_every == 0:
                record |= means.take()
            if done % config.validate_every == 0 or done == config.steps:
                record |= {f"validation_{name}": value for name, value in validate(average.module).items()}
            if record:
                minutes = (time.monotonic() - started) / 60
                log.write(json.dumps({"step": done, "minutes": round(minutes, 2), **record}) + "\n")
                log.flush()
            if done % config.checkpoint_every == 0 or done == config.steps:
                _save(checkpoint, model, average, optimizer, done, (time.monotonic() - started) / 60)
                plot_log(config.folder)
    return average.module


def plot_log(folder: Path) -> None:
    """Draw every figure of `log.jsonl` over the steps into `log.png`."""
    records = list(_read_log(folder / "log.jsonl"))
    names = sorted({name for record in records for name in record} - {"step", "minutes"})
    if not names:
        return
    figure = Figure(figsize=(7, 2.2 * len(names)), layout="constrained")
    axes = figure.subplots(len(names), 1, sharex=True, squeeze=False)
    for axis, name in zip(axes[:, 0], names, strict=True):
        points = [(record["step"], record[name]) for record in records if name in record]
        axis.plot(*zip(*points, strict=True), linewidth=0.9)
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
    temporary = path.with_suffix(".tmp")
    torch.save(state, temporary)
    temporary.replace(path)


def _resume(path: Path, model: nn.Module, average: AveragedModel, optimizer: MatrixOptimizer) -> tuple[int, float]:
    if not path.exists():
        return 0, 0.0
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    average.load_state_dict(state["average"])
    optimizer.load_state_dict(state["optimizer"])
    logger.info("resuming %s at step %d", path, state["step"])
    return state["step"], state["minutes"]
