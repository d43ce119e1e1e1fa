"""Golden forward passes of the DiT: single chunks, windows, the KV cache, guidance, and the bfloat16 policy."""

from dataclasses import dataclass, field, replace

import torch

from motioncache.kv_cache import KVCache
from motioncache_eval.parity import FileReport, Tolerance
from motioncache_magi.model.config import MagiConfig
from motioncache_magi.model.dit import VideoDiT, from_patches
from motioncache_magi.model.forward import ChunkInput, run_chunks
from motioncache_magi.model.packed import Text
from motioncache_magi.parity.golden import FLOAT, Golden
from motioncache_magi.parity.model import build_dit, embed_words, fixed_settings
from motioncache_magi.sampling.guidance import Pass
from motioncache_magi.sampling.kv_layout import TEXT
from motioncache_magi.sampling.sampler import Sampler
from motioncache_magi.sampling.step import KeyRange, Step, distilled_step_size

CLEAN = 0.9999
BFLOAT16 = Tolerance(name="0.05 of a standard deviation", deviation=0.05)
"""The golden file was made with other kernels; its own distance from float32 is of this size."""

CAUSAL: list[KeyRange] = [(0, 1), (0, 2), (0, 3), (0, 4)]
LIMITED: list[KeyRange] = [(0, 1), (0, 2), (1, 3), (1, 4)]


@dataclass(slots=True)
class Case:
    """A golden model with the inputs of a cases file, and a KV cache that lives through several calls."""

    golden: Golden
    model: VideoDiT
    config: MagiConfig
    cache: KVCache = field(init=False)

    def __post_init__(self) -> None:
        model = self.config.model
        self.cache = KVCache(
            layers=model.num_layers,
            batch=1,
            rows=self.latents.shape[1] // self.width * self.tokens,
            heads=model.num_query_groups,
            head_dim=model.kv_channels,
            dtype=model.dtype,
            device=torch.device("cpu"),
        )

    @classmethod
    def of(cls, golden: Golden, dtype: str = "torch.float32") -> "Case":
        weights = golden.sibling(golden.about["weights"])
        config = MagiConfig.from_dict(weights.about["config"], where=weights.name)
        config = replace(config, model=replace(config.model, params_dtype=dtype))
        return cls(golden=golden, model=build_dit(weights, config), config=config)

    @property
    def latents(self) -> torch.Tensor:
        """`[channels, frames, height, width]` of all chunks."""
        return self.golden.tensors["x"][0]

    @property
    def width(self) -> int:
        return self.golden.about["chunk_width"]

    @property
    def grid(self) -> tuple[int, int, int]:
        return self.width, self.latents.shape[2] // 2, self.latents.shape[3] // 2

    @property
    def tokens(self) -> int:
        frames, rows, columns = self.grid
        return frames * rows * columns

    @property
    def times(self) -> list[float]:
        return self.golden.tensors["t4"][0].tolist()

    def text(self, chunk: int) -> Text:
        return embed_words(self.model, self.golden.tensors["y"][chunk], self.golden.tensors["mask"][chunk])

    def null(self) -> Text:
        return embed_words(self.model, self.golden.tensors["y_null"][0], self.golden.tensors["mask_null"][0])

    @torch.inference_mode()
    def run(
        self,
        chunks: list[int],
        times: list[float],
        texts: list[Text],
        seen: list[KeyRange],
        *,
        dropped: bool = False,
        step_size: float | None = None,
    ) -> torch.Tensor:
        """One packed pass, `[1, channels, frames, height, width]`."""
        inputs = [
            ChunkInput(
                tokens=self.model.embed(self.latents[:, chunk * self.width : (chunk + 1) * self.width]),
                first_frame=chunk * self.width,
                t=t,
                dropped=dropped,
                text=text,
                cache_start=chunk * self.tokens,
                attended=slice(first * self.tokens, end * self.tokens),
            )
            for chunk, t, text, (first, end) in zip(chunks, times, texts, seen, strict=True)
        ]
        velocities = run_chunks(self.model, inputs, self.cache, self.grid, step_size)
        return torch.cat([from_patches(velocity, *self.grid) for velocity in velocities], dim=1)[None]

    def cached(self, layer: int, chunks: int) -> torch.Tensor:
        """Keys and values of the first chunks, `[tokens, heads, 2 * head_dim]`."""
        return torch.cat(self.cache.read(layer, slice(0, chunks * self.tokens)), dim=-1)[0]


def check_dit(golden: Golden) -> FileReport:
    """All calls of a cases file."""
    case, report = Case.of(golden), FileReport(golden.name)
    _check_single(case, report)
    _check_cache(case, report)
    _check_guidance(case, report)
    return report


def _check_single(case: Case, report: FileReport) -> None:
    texts, times = [case.text(chunk) for chunk in range(4)], case.times
    one = ([0], times[:1], texts[:1], CAUSAL[:1])
    masked = embed_words(case.model, case.golden.tensors["y"][0], case.golden.tensors["mask_null"][0])
    outputs = {
        "one_chunk": case.run(*one),
        "one_chunk_dropped": case.run([0], times[:1], [masked], CAUSAL[:1], dropped=True),
        "window4_causal": case.run([0, 1, 2, 3], times, texts, CAUSAL),
        "window4_limited": case.run([0, 1, 2, 3], times, texts, LIMITED),
    }
    for name, steps, interval in (("n64", 64, 1), ("n16", 16, 1), ("n12_iv2", 12, 2), ("n12_iv1", 12, 1)):
        outputs[f"distill_{name}"] = case.run(*one, step_size=distilled_step_size(steps, interval))
    for name, ours in outputs.items():
        report.compare(name, ours, case.golden.tensors[f"{name}.out"], FLOAT)


def _check_cache(case: Case, report: FileReport) -> None:
    """Chunks whose keys and values come from an earlier call."""
    tensors, times, null = case.golden.tensors, case.times, case.null()
    report.compare(
        "kv1_prefix", case.run([0, 1], [CLEAN] * 2, [null] * 2, [(0, 1), (1, 2)]), tensors["kv1_prefix.out"], FLOAT
    )
    for layer in range(case.config.model.num_layers):
        name = f"kv1_prefix.cache.layer{layer}"
        report.compare(name, case.cached(layer, 2), tensors[name], FLOAT)
    texts = [case.text(chunk) for chunk in range(4)]
    report.compare("kv2_read", case.run([2, 3], times[:2], texts[2:], [(0, 3), (1, 4)]), tensors["kv2_read.out"], FLOAT)
    seen: list[KeyRange] = [(0, 1), (0, 2), (1, 3)]
    refreshed = case.run([0, 1, 2], [CLEAN, 0.5, 0.1], [null, *texts[1:3]], seen)
    report.compare("kv3_extra", refreshed, tensors["kv3_extra.out"], FLOAT)
    report.compare("kv3_extra.cache.layer0", case.cached(0, 1), tensors["kv3_extra.cache.layer0"], FLOAT)
    after = case.run([1, 2], [0.51, 0.11], texts[1:3], seen[1:])
    report.compare("kv4_after", after, tensors["kv4_after.out"], FLOAT)


def _check_guidance(case: Case, report: FileReport) -> None:
    """Whole steps of the window, with their branches joined."""
    refreshed = [CLEAN, 0.6, 0.2, 0.05]
    for name, cfg, times, near, extra in (
        ("cfg1_plain", 1, case.times, False, False),
        ("cfg1_nearclean", 1, case.times, True, False),
        ("cfg1_nearclean_extra", 1, refreshed, True, True),
        ("cfg1_extra", 1, refreshed, False, True),
        ("cfg3_plain", 3, case.times, False, False),
        ("cfg3_extra", 3, refreshed, False, True),
        ("cfg3_early", 3, [0.15, 0.05, 0.01, 0.0], False, False),
    ):
        ours = guided_velocity(case, cfg=cfg, times=times, near=near, extra=extra)
        report.compare(name, ours, case.golden.tensors[f"{name}.out"], FLOAT)


class DispatcherSampler(Sampler):
    """A sampler that gives the clean chunk its own caption in the branch with text.

    The golden calls enter the official code below its sampling loop (`forward_dispatcher`), with captions for all four
    chunks. The sampling loop itself puts the null text in the caption's place for a clean chunk before it gets there,
    and so does `Sampler`. The choice reaches the other chunks: they attend to the clean chunk's keys and values, which
    depend on its text from the second layer on.
    """

    def _input(self, one: Pass, due: bool | torch.Tensor, tokens: torch.Tensor, step: Step) -> ChunkInput:
        chunk_input = super()._input(one, due, tokens, step)
        if one.refresh and one.branch == TEXT:
            return replace(chunk_input, text=self._captions[one.chunk])
        return chunk_input


def guided_velocity(case: Case, *, cfg: int, times: list[float], near: bool, extra: bool) -> torch.Tensor:
    """Velocities of a step of the window, its branches joined, `[1, channels, frames, height, width]`.

    Args:
        cfg: branches of guidance, 1 (a distilled model) or 3 (a base model).
        times: times of the four chunks.
        near: whether the oldest chunk is nearly clean, so that a distilled model guides it by its past.
        extra: whether the first chunk is clean: it is computed for its keys and values, and left out of the result.
    """
    config = replace(
        case.config,
        runtime=replace(case.config.runtime, cfg_number=cfg),
        engine=replace(case.config.engine, distill=cfg == 1, distill_nearly_clean_chunk_threshold=0.0 if near else 2.0),
    )
    sampler = DispatcherSampler(
        case.model,
        fixed_settings(config, times, case.width),
        case.latents.clone(),
        prefix=None,
        captions=[case.text(chunk) for chunk in range(4)],
        null=case.null(),
    )
    first = 1 if extra else 0
    step = Step(
        index=0,
        window=range(first, 4),
        counts=tuple(range(2 * first, 8, 2)),
        refresh=0 if extra else None,
        refresh_range=LIMITED[0],
        ranges=tuple(LIMITED[first:]),
        interval=1,
        finished=None,
    )
    sampler.step(step)
    new = slice(first * case.width, None)
    return (sampler.latents - case.latents)[None, :, new]


def check_bfloat16(golden: Golden) -> FileReport:
    """Which parameters stay in float32 (the manifest lists those of the first layer), and a forward in bfloat16."""
    report = FileReport(golden.name)
    case = Case.of(golden.sibling(golden.name.replace("_bf16", "_cases")), "torch.bfloat16")
    dtypes = {name: str(parameter.dtype) for name, parameter in case.model.named_parameters()}
    for name, dtype in golden.about["param_dtypes_after_promotion"].items():
        report.check(name, dtypes.get(name), f"torch.{dtype}")
    ours = case.run([0, 1], case.times[:2], [case.text(0), case.text(1)], CAUSAL[:2])
    report.compare("window2", ours, golden.tensors["window2.out"], BFLOAT16)
    return report
