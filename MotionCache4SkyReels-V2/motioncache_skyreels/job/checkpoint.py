"""The kind of checkpoint that holds a diffusion-forcing pipeline."""

from functools import partial

from diffusers import AutoencoderKLWan, SkyReelsV2DiffusionForcingPipeline, SkyReelsV2Transformer3DModel
from transformers import UMT5EncoderModel

from motioncache_diffusers import configs
from motioncache_diffusers.loading import Checkpoint

_TRANSFORMER = (
    "num_layers", "num_attention_heads", "attention_head_dim", "in_channels", "out_channels", "text_dim", "freq_dim",
    "ffn_dim", "rope_max_seq_len", "num_frame_per_block",
)  # fmt: skip

check_configs = partial(
    configs.check_configs, transformer_sizes=_TRANSFORMER, scheduler_sizes=("num_train_timesteps", "solver_order")
)

CHECKPOINT = Checkpoint(
    pipeline=SkyReelsV2DiffusionForcingPipeline,
    parts={
        "transformer": SkyReelsV2Transformer3DModel,
        "vae": AutoencoderKLWan,
        "text_encoder": UMT5EncoderModel,
    },
    check_configs=check_configs,
    example="Skywork/SkyReels-V2-DF-1.3B-540P-Diffusers",
)
