"""The kind of checkpoint that holds a Helios pipeline."""

from functools import partial

from diffusers import AutoencoderKLWan, HeliosPipeline, HeliosTransformer3DModel
from transformers import UMT5EncoderModel

from motioncache_diffusers.configs import check_configs
from motioncache_diffusers.loading import Checkpoint

_TRANSFORMER = (
    "num_layers", "num_attention_heads", "attention_head_dim", "in_channels", "out_channels", "text_dim", "freq_dim",
    "ffn_dim",
)  # fmt: skip

CHECKPOINT = Checkpoint(
    pipeline=HeliosPipeline,
    parts={"transformer": HeliosTransformer3DModel, "vae": AutoencoderKLWan, "text_encoder": UMT5EncoderModel},
    check_configs=partial(
        check_configs, transformer_sizes=_TRANSFORMER, scheduler_sizes=("num_train_timesteps", "solver_order", "stages")
    ),
    example="BestWishYsh/Helios-Base",
)
