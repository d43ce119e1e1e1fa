"""The video of the paper's measurement of SkyReels-V2, with random weights."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from diffusers import (
    AutoencoderKLWan,
    SkyReelsV2DiffusionForcingPipeline,
    SkyReelsV2Transformer3DModel,
    UniPCMultistepScheduler,
)

from motioncache.forecast.budget import ForecastConfig
from motioncache.foreign import Onlooker
from motioncache.registry import resolve_preset
from motioncache_eval.paper import FAST, FORECAST, SLOW, VANILLA, LayerCounts, PaperVideo, Planned, Share
from motioncache_skyreels.adapter import SkyReelsAdapter
from motioncache_skyreels.hook import SkyReelsHook
from motioncache_skyreels.measure import (
    CHUNK_FRAMES,
    WeightlessOpener,
    create_autoencoder,
    create_transformer,
    host_pipeline,
)
from motioncache_skyreels.memory import RELEASED, TEXT_LENGTH
from motioncache_skyreels.packed import Pack
from motioncache_skyreels.schedule import Matrices, Schedule
from motioncache_skyreels.window import Window

WARMUP = 4

PAPER = PaperVideo(
    title="SkyReels-V2 1.3B, 544x960, 177 frames, 50 steps",
    layers=30,
    shares={SLOW: 0.290, FAST: 0.234, FORECAST: 0.31},
    published={VANILLA: 1540, SLOW: 245, FAST: 212},
)
"""See `addconfig/config.yaml`, where the shares of `slow` and `fast` come from; that of `forecast` takes the FLOPs of
`slow`, whose warm-up is computed besides."""

CALL: dict[str, Any] = {
    "height": 544, "width": 960, "num_frames": 177, "base_num_frames": 97, "overlap_history": 17,
    "addnoise_condition": 20, "num_inference_steps": 50, "guidance_scale": 6.0, "ar_step": 5,
    "causal_block_size": CHUNK_FRAMES, "output_type": "latent",
}  # fmt: skip


def sample_paper(method: str, device: str) -> Callable[[], object]:
    """See `SamplesPaper`."""
    sizes, _ = RELEASED["1.3B-540P"]
    return sampler(random_pipeline(create_transformer(sizes, torch.bfloat16), device), method, device, CALL)


def count_paper(method: str, layers: LayerCounts) -> Callable[[], object]:
    """See `SamplesPaper`."""
    sizes, _ = RELEASED["1.3B-540P"]
    transformer = create_transformer({**sizes, "num_layers": 1}, torch.bfloat16)
    return sampler(host_pipeline(transformer, create_autoencoder()), method, "meta", CALL, layers)


def sampler(
    pipeline: Any, method: str, device: str, call: dict[str, Any], layers: LayerCounts | None = None
) -> Callable[[], Any]:
    """Samples a video with a method's stand-in.

    Args:
        layers: counts the model calls.
    """
    transformer = pipeline.transformer
    if method != VANILLA:
        adapter = SkyReelsAdapter()
        policy = resolve_preset(adapter, method, allow_foreign_calibration=True)
        opener = _Opener(pipeline, policy, adapter.presets()).standing_in(method, device)
        if layers is not None:
            opener.window_class = partial(_CountedWindow, layers=layers)
        SkyReelsHook(pipeline, opener)
    elif layers is not None:
        _count_stock_blocks(transformer, layers)
    if layers is not None:
        transformer.forward = Onlooker(transformer.forward, layers.call)
    where = "cpu" if device == "meta" else device
    text = torch.zeros(1, TEXT_LENGTH, transformer.config.text_dim, dtype=transformer.dtype, device=where)
    return lambda: pipeline(None, prompt_embeds=text, negative_prompt_embeds=text.clone(), **call)


def random_pipeline(transformer: SkyReelsV2Transformer3DModel, device: str) -> Any:
    """diffusers' own pipeline, with random weights."""
    own = SkyReelsV2Transformer3DModel.from_config(transformer.config)  # without what serves meta tensors
    dtypes = {name: parameter.dtype for name, parameter in transformer.named_parameters()}
    torch.manual_seed(0)
    for name, parameter in own.named_parameters():
        parameter.data = torch.empty_like(parameter, dtype=dtypes[name], device=device).normal_(std=0.02)
    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=8.0)
    vae = AutoencoderKLWan(base_dim=8, num_res_blocks=1)  # decodes nothing here
    pipeline = SkyReelsV2DiffusionForcingPipeline(
        tokenizer=None,  # pyright: ignore[reportArgumentType]
        text_encoder=None,  # pyright: ignore[reportArgumentType]
        transformer=own.requires_grad_(False).to(device),
        vae=vae.to(device),  # pyright: ignore[reportArgumentType]
        scheduler=scheduler,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


class _Opener(WeightlessOpener):
    """Opens windows in which a stand-in decides."""

    _method, _device = VANILLA, "meta"

    def standing_in(self, method: str, device: str) -> "_Opener":
        """The same for a method."""
        self._method, self._device = method, device
        return self

    def open(self, *args: Any, **kwargs: Any) -> Window:
        window = super().open(*args, **kwargs)
        if self._method in (SLOW, FAST):
            self.engine.policy = Share(PAPER.shares[self._method], WARMUP, self._device)
        if self._method == FORECAST:
            history = self.config.order_at(None) if isinstance(self.config, ForecastConfig) else 1
            self.engine.policy = Planned(PAPER.shares[self._method], history)
        return window

    def create_schedule(self, matrices: Matrices, chunk_frames: int, fps: Sequence[int] | None) -> Schedule:
        """No distance decides here."""
        return Schedule(matrices, chunk_frames=chunk_frames)


class _CountedWindow(Window):
    """A window whose blocks are counted; a pass of clean chunks is always made, since later ones see them."""

    def __init__(self, *args: Any, layers: LayerCounts, **options: Any) -> None:
        super().__init__(*args, **options)
        self._layers = layers

    def _through_blocks(self, hidden: torch.Tensor, pack: Pack) -> torch.Tensor:
        clean = any(one.clean for one in pack.segments)
        texts = all(pack.texts[branch].keys_values for branch in pack.branch_rows())
        key = tuple((one.branch, one.stop - one.start, one.attended.stop, one.clean) for one in pack.segments)
        through = super()._through_blocks
        return self._layers.run((key, texts), lambda: through(hidden, pack), lambda: hidden, always=clean or not texts)


def _count_stock_blocks(transformer: Any, layers: LayerCounts) -> None:
    """Count the blocks of diffusers' own forward: every call of a size asks for the same."""

    def count(forward: Any, hidden: torch.Tensor, *args: Any, **options: Any) -> torch.Tensor:
        return layers.run(hidden.shape, lambda: forward(hidden, *args, **options), lambda: hidden)

    for block in transformer.blocks:
        block.forward = Onlooker(block.forward, count)
