"""Finds the parts of a model in the layout of the official repository: `magi/VARIANT`, `vae` and `t5`."""

from dataclasses import dataclass
from pathlib import Path

from motioncache.errors import MotionCacheError
from motioncache_magi.loading.variants import is_released, released
from motioncache_magi.model.config import MagiConfig
from motioncache_magi.vae.config import VaeConfig

CONFIG, SPECIAL_TOKENS = "config.json", "special_tokens.npz"


@dataclass(frozen=True, slots=True, kw_only=True)
class Folders:
    """The places of a model's parts, and the configuration of its variant.

    Attributes:
        variant: folder of the variant's weights.
        vae: folder of the autoencoder.
        t5: folder that holds the text encoder.
        special_tokens: the file of special tokens; None if the model has none.
    """

    variant: Path
    vae: Path
    t5: Path
    special_tokens: Path | None
    config: MagiConfig

    @classmethod
    def find(cls, root: Path, *, variant: str | None, config: Path | None, special_tokens: Path | None) -> "Folders":
        """Look for the parts in `root`, or in `root/ckpt`.

        The configuration is read from `config` if it is passed, and else from `config.json` in the variant's folder.
        Without either, it is the configuration of the released variant of this name.

        Args:
            variant: name of the variant; None takes the only one that there is.
            special_tokens: the file of special tokens; None looks for `special_tokens.npz`.

        Raises:
            MotionCacheError: if a folder is missing, the choice of a variant is unclear, or a model of the shape of a
                released one lacks the special tokens that those were trained with.
        """
        if not root.is_dir():
            raise MotionCacheError(f"there is no model folder {root}")
        base = root / "ckpt" if (root / "ckpt" / "magi").is_dir() else root
        chosen = _variant(base / "magi", variant)
        config_path = config or _existing(chosen / CONFIG)
        tokens_path = special_tokens or _existing(root / SPECIAL_TOKENS) or _existing(base / SPECIAL_TOKENS)
        settings = MagiConfig.from_file(config_path) if config_path else released(chosen.name)
        if tokens_path is None and is_released(settings.model):
            raise MotionCacheError(
                f"{chosen} was trained with special tokens in front of captions: download example/assets/"
                f"{SPECIAL_TOKENS} of github.com/SandAI-org/MAGI-1 to {root}, or pass its path as special_tokens="
            )
        return cls(
            variant=chosen,
            vae=_folder(base / "vae"),
            t5=_folder(base / "t5"),
            special_tokens=tokens_path,
            config=settings,
        )

    def check_parts(self, vae: VaeConfig, caption_channels: int) -> None:
        """Refuse an autoencoder and a text encoder of another model.

        Args:
            caption_channels: channels of the text encoder's output.
        """
        model, runtime = self.config.model, self.config.runtime
        parts = (
            (self.vae, "channels of a latent", vae.z_chans, model.latent_channels),
            (self.vae, "frames per latent frame", vae.patch_length, runtime.temporal_downsample_factor),
            (self.t5, "channels of a caption", caption_channels, model.caption_channels),
        )
        for folder, what, given, wanted in parts:
            if given != wanted:
                raise MotionCacheError(
                    f"{folder} has {given} {what}, and {self.variant} asks for {wanted}: take the parts of one model"
                )


def _variant(folder: Path, name: str | None) -> Path:
    found = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    if not found:
        raise MotionCacheError(f"{folder} holds no variant such as 4.5B_distill: is {folder.parent} a MAGI-1 folder?")
    if name is None and len(found) > 1:
        raise MotionCacheError(f"{folder} holds several variants ({', '.join(found)}): name one with variant=")
    if name is not None and name not in found:
        raise MotionCacheError(f"{folder} has no variant {name!r}, only {', '.join(found)}")
    return folder / (name or found[0])


def _existing(path: Path) -> Path | None:
    return path if path.is_file() else None


def _folder(path: Path) -> Path:
    if not path.is_dir():
        raise MotionCacheError(f"there is no folder {path}; the official repository has one")
    return path
