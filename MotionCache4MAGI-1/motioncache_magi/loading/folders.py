"""Finds the parts of a model in the layout of the official repository: `magi/VARIANT`, `vae` and `t5`."""

from dataclasses import dataclass
from pathlib import Path

from motioncache.errors import MotionCacheError
from motioncache_magi.loading.variants import released
from motioncache_magi.model.config import MagiConfig

CONFIG, SPECIAL_TOKENS = "config.json", "special_tokens.npz"


@dataclass(frozen=True, slots=True, kw_only=True)
class Folders:
    """Where the parts lie, and the configuration of the variant."""

    variant: Path
    vae: Path
    t5: Path
    special_tokens: Path | None
    config: MagiConfig

    @classmethod
    def find(cls, root: Path, *, variant: str | None, config: Path | None, special_tokens: Path | None) -> "Folders":
        """Look in `root`, or in `root/ckpt`.

        The configuration is the file that is passed, else `config.json` in the variant's folder, else that of the
        released variant of this name.
        """
        if not root.is_dir():
            raise MotionCacheError(f"there is no model folder {root}")
        base = root / "ckpt" if (root / "ckpt" / "magi").is_dir() else root
        chosen = _variant(base / "magi", variant)
        own = chosen / CONFIG
        path = config or (own if own.is_file() else None)
        tokens = special_tokens or next(
            (p for p in (root / SPECIAL_TOKENS, base / SPECIAL_TOKENS) if p.is_file()), None
        )
        return cls(
            variant=chosen,
            vae=_folder(base / "vae"),
            t5=_folder(base / "t5"),
            special_tokens=tokens,
            config=MagiConfig.from_file(path) if path else released(chosen.name),
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


def _folder(path: Path) -> Path:
    if not path.is_dir():
        raise MotionCacheError(f"there is no folder {path}; the official repository has one")
    return path
