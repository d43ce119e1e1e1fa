"""Checks the configurations of a checkpoint with Wan's autoencoder and a UMT5, before its weights are loaded."""

from pathlib import Path
from typing import Any

from motioncache.checkpoints import check_sizes, is_number, is_whole, read_mapping, require_value

_VAE = (
    "base_dim", "z_dim", "num_res_blocks", "in_channels", "out_channels", "scale_factor_temporal",
    "scale_factor_spatial",
)  # fmt: skip
_TEXT_ENCODER = ("vocab_size", "d_model", "d_kv", "d_ff", "num_layers", "num_heads", "relative_attention_num_buckets")


def check_configs(folder: Path, *, transformer_sizes: tuple[str, ...], scheduler_sizes: tuple[str, ...]) -> None:
    """Refuse sizes and scales that no model can have, and parts that do not fit each other.

    Args:
        transformer_sizes, scheduler_sizes: fields that are whole numbers above 0.

    Raises:
        ConfigError: names the file, the field, its value, and what is allowed.
    """
    transformer, vae, text_encoder = (folder / part / "config.json" for part in ("transformer", "vae", "text_encoder"))
    model, codec, encoder = (read_mapping(path) for path in (transformer, vae, text_encoder))
    check_sizes(str(transformer), model, transformer_sizes)
    check_sizes(str(text_encoder), encoder, _TEXT_ENCODER)
    check_sizes(str(vae), codec, _VAE)
    _check_patch(f"{transformer}: patch_size", model.get("patch_size", [1, 2, 2]))
    channels = codec.get("z_dim", 16)
    for name in ("latents_mean", "latents_std"):
        _check_latents(f"{vae}: {name}", codec.get(name), channels, positive=name == "latents_std")
    for name in ("in_channels", "out_channels"):
        value = model.get(name, 16)
        require_value(f"{transformer}: {name}", value, value == channels, f"{channels}, the z_dim of {vae}")
    width, wanted = model.get("text_dim", 4096), encoder.get("d_model", 512)
    require_value(f"{transformer}: text_dim", width, width == wanted, f"{wanted}, the d_model of {text_encoder}")
    _check_scheduler(folder / "scheduler" / "scheduler_config.json", scheduler_sizes)


def _check_patch(where: str, patch: Any) -> None:
    fits = isinstance(patch, list) and len(patch) == 3 and all(is_whole(size) for size in patch)
    require_value(where, patch, fits, "three whole numbers above 0")


def _check_latents(where: str, values: Any, channels: int, *, positive: bool) -> None:
    """Check the mean or the spread of each latent channel; a file without them takes those of Wan's autoencoder."""
    if values is None and channels == 16:
        return
    found: list[Any] = values if isinstance(values, list) else []
    fits = len(found) == channels and all(is_number(value) and (value > 0 or not positive) for value in found)
    kind = "above 0" if positive else "that are finite"
    require_value(where, values, fits, f"{channels} numbers {kind}, one for each channel of a latent (z_dim)")


def _check_scheduler(path: Path, sizes: tuple[str, ...]) -> None:
    values = read_mapping(path)
    check_sizes(str(path), values, sizes)
    shift = values.get("flow_shift", 1.0)
    require_value(f"{path}: flow_shift", shift, is_number(shift) and shift > 0, "a number above 0")
