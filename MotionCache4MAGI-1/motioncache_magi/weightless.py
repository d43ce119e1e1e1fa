"""A video of a MAGI-1 whose weights have no values: what is measured of it without a GPU."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from motioncache.config import PolicyConfig
from motioncache.engine import Engine
from motioncache.errors import ConfigError
from motioncache.forecast.budget import ForecastConfig
from motioncache.grid import TokenGrid
from motioncache.registry import resolve_preset
from motioncache_eval.absent import absent_ranks
from motioncache_eval.measured_memory import MemorySettings
from motioncache_magi.cache.adapter import MagiAdapter
from motioncache_magi.cache.config import MagiReuseConfig
from motioncache_magi.cache.hook import MagiHook
from motioncache_magi.cache.parallel import ParallelHook, divided_parts
from motioncache_magi.memory import schedule_of
from motioncache_magi.model.config import MagiConfig
from motioncache_magi.model.dit import VideoDiT
from motioncache_magi.model.fp8 import hold_fp8
from motioncache_magi.model.packed import Text
from motioncache_magi.pipeline import MagiPipeline
from motioncache_magi.sampling.guidance import branches_of
from motioncache_magi.sampling.options import AUTOMATIC, MemoryOptions
from motioncache_magi.sampling.sampler import Sampler, Settings
from motioncache_magi.sampling.schedule import WindowSchedule
from motioncache_magi.sampling.step import Step


def configured(config: MagiConfig, settings: MemorySettings) -> MagiConfig:
    """A released configuration with what is asked for.

    Raises:
        ConfigError: for settings of another model.
    """
    if settings.base_num_frames is not None:
        raise ConfigError("base_num_frames is a setting of SkyReels-V2; the window of MAGI-1 has always 4 chunks")
    if settings.synchronous:
        raise ConfigError("synchronous is a setting of SkyReels-V2; chunks of MAGI-1 always finish one after another")
    if settings.weights is not None:
        raise ConfigError("weights: int8 is of SkyReels-V2; MAGI-1 has 4.5B_distill_quant and 24B_distill_quant in fp8")
    if settings.dtype == "float16":
        raise ConfigError("dtype: 'float16' is not allowed; allowed for MAGI-1: null, float32, bfloat16")
    runtime, model = config.runtime, config.model
    sizes = settings.filled(height=runtime.video_size_h, width=runtime.video_size_w, num_frames=runtime.num_frames)
    dtype = model.params_dtype if settings.dtype is None else f"torch.{settings.dtype}"
    runtime = replace(runtime, video_size_h=sizes.height, video_size_w=sizes.width, num_frames=sizes.num_frames)  # pyright: ignore[reportArgumentType]
    return replace(config, runtime=runtime, model=replace(model, params_dtype=dtype))


def create_transformer(config: MagiConfig) -> VideoDiT:
    """A model without memory; that of an fp8 checkpoint keeps its weights so."""
    with torch.device("meta"):
        model = VideoDiT(config.model).set_dtypes().requires_grad_(False)
        return hold_fp8(model) if config.engine.fp8_quant else model


@dataclass(frozen=True, slots=True)
class Opened:
    """A video of which any steps can be sampled, as far as they are needed."""

    hook: MagiHook
    sampler: Sampler
    settings: Settings

    @property
    def schedule(self) -> WindowSchedule:
        return self.settings.schedule

    @property
    def history(self) -> int:
        """How many outputs of a chunk the policy keeps."""
        config = self.hook.config
        if isinstance(config, ForecastConfig):
            return config.order_at(None)
        return config.create_policy(self.schedule).history if isinstance(config, MagiReuseConfig) else 0

    def sample(self, steps: list[Step]) -> None:
        """Sample these steps."""
        for step in steps:
            self.sampler.step(step)

    def close(self) -> None:
        """Free all that belongs to the video."""
        self.hook.engine.drop()
        self.hook.undo()


def open_video(
    model: VideoDiT,
    config: MagiConfig,
    sizes: MemorySettings,
    options: MemoryOptions = AUTOMATIC,
    *,
    create_engine: Callable[[], Engine] | None = None,
) -> Opened:
    """Begin a video with a cache, on the device of the model.

    Args:
        sizes: the preset, and how keys and values are kept.
        create_engine: what makes decisions, where the hook's own should not.
    """
    runtime, schedule = config.runtime, schedule_of(config)
    frames, size = schedule.chunks * runtime.chunk_width, (runtime.video_size_h // 8, runtime.video_size_w // 8)
    hook = _hook(model, config, sizes)
    if create_engine is not None:
        hook.engine = create_engine()
    latents = torch.zeros(config.model.latent_channels, frames, *size, device=model.rope.bands.device)
    settings = hook.prepare(Settings.of(config, schedule, options), latents, config.model.caption_max_length)
    reuse, texts = hook.create_reuse(settings), [_text(model, config) for _ in range(schedule.chunks + 1)]
    sampler = hook.sampler()(model, settings, latents, prefix=None, captions=texts[1:], null=texts[0], reuse=reuse)
    grid = TokenGrid(frames=frames, height=size[0] // 2, width=size[1] // 2, chunk_frames=runtime.chunk_width)
    reuse.start(grid, schedule.total, branches_of(settings.guidance))
    return Opened(hook, sampler, settings)


def _hook(model: VideoDiT, config: MagiConfig, sizes: MemorySettings) -> MagiHook:
    adapter = MagiAdapter()
    pipeline = MagiPipeline(model, None, None, config, device="meta")  # pyright: ignore[reportArgumentType]
    policy, presets = _policy(adapter, sizes), adapter.presets()
    if sizes.gpus == 1:
        return MagiHook(pipeline, policy, presets=presets)
    branches, heads = divided_parts(config, model)
    ranks = absent_ranks(sizes.divided, sizes.gpus, branches=branches, heads=heads)
    return ParallelHook(pipeline, policy, presets=presets, ranks=ranks)


def _policy(adapter: MagiAdapter, sizes: MemorySettings) -> PolicyConfig:
    """The preset's; velocities of a model without values can't be measured."""
    policy = resolve_preset(
        adapter,
        sizes.preset,
        None,
        allow_foreign_calibration=True,
        kv=sizes.kv,
        split_guidance=sizes.split_guidance,
    )
    return replace(policy, target_speedup=1.0, calibration=None) if isinstance(policy, ForecastConfig) else policy


def _text(model: VideoDiT, config: MagiConfig) -> Text:
    """A prompt of full length, embedded."""
    device = model.rope.bands.device
    return Text(
        model.embed_text(torch.zeros(config.model.caption_max_length, config.model.caption_channels, device=device))
    )
