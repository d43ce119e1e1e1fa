"""The official configuration of MAGI-1's video autoencoder, read strictly."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from motioncache.checkpoints import is_number, is_whole
from motioncache.errors import ConfigError
from motioncache.field_types import shown

Grid = tuple[int, int, int]
"""(frames, height, width), in pixels or in latents."""

_ALWAYS_ON = ("double_z", "with_cls_token", "ln_in_attn", "conv_last_layer")
_ALWAYS_OFF = ("norm_code", "use_rope", "use_final_proj")
_WITHOUT_EFFECT = ("qk_scale", "drop_rate", "attn_drop_rate", "drop_path_rate")
_BOOKKEEPING = ("_diffusers_version", "_name_or_path")


@dataclass(frozen=True, slots=True, kw_only=True)
class VaeConfig:
    """Sizes of the autoencoder, under the names of the official `config.json`.

    Args:
        video_size: height and width of the training videos in pixels; `video_size / patch_size` is the side of the grid
            that the position tables were trained on.
        video_length: frames of the training videos.
        patch_size: pixels per latent row and column.
        patch_length: frames per latent frame.
        in_chans: channels of a video.
        z_chans: channels of a latent.
        embed_dim: channels of a token.
        depth: blocks of the encoder; the decoder has as many.
        num_heads: attention heads.
        mlp_ratio: hidden channels of the feed-forward, in units of `embed_dim`.
        qkv_bias: whether queries, keys and values have a bias.
    """

    video_size: int
    video_length: int
    patch_size: int
    patch_length: int
    in_chans: int
    z_chans: int
    embed_dim: int
    depth: int
    num_heads: int
    mlp_ratio: float
    qkv_bias: bool

    def __post_init__(self) -> None:
        for field in fields(self):
            _check_type(field.name, getattr(self, field.name), field.type)
        self._check_multiple("video_size", self.video_size, "patch_size", self.patch_size)
        self._check_multiple("video_length", self.video_length, "patch_length", self.patch_length)
        self._check_multiple("embed_dim", self.embed_dim, "num_heads", self.num_heads)
        self._check_multiple("embed_dim", self.embed_dim, "patch_length x patch_size x patch_size", self.patch_volume)

    @staticmethod
    def _check_multiple(name: str, value: int, divisor_name: str, divisor: int) -> None:
        if value % divisor:
            raise ConfigError(f"{name} must be a multiple of {divisor_name} = {divisor}, not {value}")

    @classmethod
    def from_official(cls, config: Mapping[str, Any], *, where: str = "VAE config.json") -> "VaeConfig":
        """Read the content of a checkpoint's `config.json`: `_class_name`, `model_type` and `ddconfig`.

        Args:
            where: name of the file, for error messages.

        Raises:
            ConfigError: if the file describes another kind of autoencoder or a variant of the network that no released
                checkpoint uses, or if a field is unknown, missing or of the wrong type.
        """
        _check_keys(where, config, required=("_class_name", "model_type", "ddconfig"), optional=_BOOKKEEPING)
        _check_value(f"{where}: _class_name", config["_class_name"], "ViTVAE")
        _check_value(f"{where}: model_type", config["model_type"], "vit")
        where, values = f"{where}: ddconfig", config["ddconfig"]
        if not isinstance(values, Mapping):
            raise ConfigError(f"{where} must be a mapping of sizes, not {shown(values)}")
        sizes = [field.name for field in fields(cls)]
        _check_keys(where, values, required=(*sizes, *_ALWAYS_ON), optional=(*_ALWAYS_OFF, *_WITHOUT_EFFECT))
        for name in _ALWAYS_ON:
            _check_value(f"{where}.{name}", values[name], True)
        for name in _ALWAYS_OFF:
            _check_value(f"{where}.{name}", values.get(name, False), False)
        for name in _WITHOUT_EFFECT:
            if values.get(name) not in (0, None):
                raise ConfigError(
                    f"{where}.{name} must be 0 or null, not {shown(values[name])}: inference does not use it"
                )
        try:
            return cls(**{name: values[name] for name in sizes})
        except ConfigError as error:
            raise ConfigError(f"{where}.{error}") from None

    @property
    def native_grid(self) -> Grid:
        """The grid that the position tables were trained on."""
        side = self.video_size // self.patch_size
        return self.video_length // self.patch_length, side, side

    @property
    def patch(self) -> Grid:
        """Pixels that one token stands for, (frames, height, width)."""
        return self.patch_length, self.patch_size, self.patch_size

    @property
    def patch_volume(self) -> int:
        """Number of pixels that one token stands for."""
        return self.patch_length * self.patch_size**2


def _check_type(name: str, value: Any, wanted: Any) -> None:
    if wanted is bool:
        fits, allowed = isinstance(value, bool), "true or false"
    elif wanted is int:
        fits, allowed = is_whole(value), "a whole number above 0"
    else:
        fits, allowed = is_number(value) and value > 0, "a number above 0"
    if not fits:
        raise ConfigError(f"{name} must be {allowed}, not {shown(value)}")


def _check_keys(where: str, values: Mapping[str, Any], *, required: tuple[str, ...], optional: tuple[str, ...]) -> None:
    for name in required:
        if name not in values:
            raise ConfigError(f"{where} lacks {name!r}: use the config.json that came with the weights")
    for name in values:
        if name not in required and name not in optional:
            known_fields = ", ".join(sorted({*required, *optional}))
            raise ConfigError(f"{where}: unknown field {name!r}; known fields: {known_fields}")


def _check_value(name: str, value: Any, wanted: Any) -> None:
    if type(value) is not type(wanted) or value != wanted:
        raise ConfigError(
            f"{name} must be {wanted!r}, not {shown(value)}: only MAGI-1's released autoencoder is supported"
        )
