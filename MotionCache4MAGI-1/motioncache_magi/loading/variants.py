"""The configurations of the released variants, for folders that come without one."""

from dataclasses import replace

from motioncache.errors import ConfigError
from motioncache_magi.model.config import EngineConfig, MagiConfig, ModelConfig, RuntimeConfig

_SMALL = ModelConfig(
    model_name="videodit_ardf",
    num_layers=34,
    hidden_size=3072,
    ffn_hidden_size=12288,
    num_attention_heads=24,
    num_query_groups=8,
    kv_channels=128,
    layernorm_epsilon=1e-6,
    apply_layernorm_1p=True,
    x_rescale_factor=1,
    half_channel_vae=False,
    params_dtype="torch.bfloat16",
    patch_size=2,
    t_patch_size=1,
    in_channels=16,
    out_channels=16,
    cond_hidden_ratio=0.25,
    caption_channels=4096,
    caption_max_length=800,
    xattn_cond_hidden_ratio=1.0,
    cond_gating_ratio=1.0,
    gated_linear_unit=False,
)
_LARGE = replace(
    _SMALL,
    num_layers=48,
    hidden_size=6144,
    ffn_hidden_size=16384,
    num_attention_heads=48,
    x_rescale_factor=0.1,
    half_channel_vae=True,
    in_channels=32,
    out_channels=32,
    gated_linear_unit=True,
)
_RUNTIME = RuntimeConfig(
    cfg_number=3,
    cfg_t_range=(0.0, 0.0217, 0.1, 0.3, 0.999),
    prev_chunk_scales=(1.5, 1.5, 1.5, 1.0, 1.0),
    text_scales=(7.5, 7.5, 7.5, 0.0, 0.0),
    noise2clean_kvrange=(5, 4, 3, 2),
    clean_chunk_kvrange=1,
    clean_t=0.9999,
    seed=1234,
    num_frames=96,
    video_size_h=720,
    video_size_w=720,
    num_steps=64,
    window_size=4,
    fps=24,
    chunk_width=6,
    t5_pretrained="",
    t5_device="cpu",
    vae_pretrained="",
    scale_factor=0.18215,
    temporal_downsample_factor=4,
    load="",
)
_ENGINE = EngineConfig(
    distributed_backend="nccl",
    distributed_timeout_minutes=15,
    pp_size=1,
    cp_size=1,
    cp_strategy="none",
    ulysses_overlap_degree=1,
    fp8_quant=False,
    distill_nearly_clean_chunk_threshold=0.3,
    shortcut_mode="8,16,16",
    distill=False,
    kv_offload=False,
    enable_cuda_graph=False,
)


def _variant(model: ModelConfig, *, distilled: bool, width: int, steps: int, t5: str) -> MagiConfig:
    return MagiConfig(
        model=model,
        runtime=replace(_RUNTIME, cfg_number=1 if distilled else 3, video_size_w=width, num_steps=steps, t5_device=t5),
        engine=replace(_ENGINE, distill=distilled),
    )


VARIANTS = {
    "4.5B_base": _variant(_SMALL, distilled=False, width=720, steps=64, t5="cpu"),
    "4.5B_distill": _variant(_SMALL, distilled=True, width=720, steps=64, t5="cpu"),
    "24B_base": _variant(_LARGE, distilled=False, width=1280, steps=32, t5="cuda"),
    "24B_distill": _variant(_LARGE, distilled=True, width=1280, steps=16, t5="cuda"),
}
"""The released configurations, by the name of their folder in `ckpt/magi`."""

FP8_VARIANTS = {
    f"{name}_quant": replace(VARIANTS[name], engine=replace(VARIANTS[name].engine, fp8_quant=True))
    for name in ("4.5B_distill", "24B_distill")
}
"""Those whose weights are fp8."""


def released(name: str) -> MagiConfig:
    """Look up the configuration of a released variant.

    Raises:
        ConfigError: for a variant that was not released.
    """
    known = {**VARIANTS, **FP8_VARIANTS}
    if name not in known:
        raise ConfigError(
            f"{name!r} is none of the released variants ({', '.join(known)}): pass config= with its JSON file"
        )
    return known[name]


def is_released(model: ModelConfig) -> bool:
    """Whether a model has the shape of a released one, in whatever dtype it is computed."""
    return any(replace(model, params_dtype=one.model.params_dtype) == one.model for one in VARIANTS.values())
