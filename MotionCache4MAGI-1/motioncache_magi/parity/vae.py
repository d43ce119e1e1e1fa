"""Golden data of the autoencoder: encode, decode, tiles and values inside a block."""

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from motioncache.errors import MotionCacheError
from motioncache_eval.parity import EXACT, FileReport
from motioncache_magi.parity.golden import FLOAT, Golden
from motioncache_magi.vae.blocks import Block
from motioncache_magi.vae.config import VaeConfig
from motioncache_magi.vae.tiling import Tiling, decode_tiled, encode_tiled
from motioncache_magi.vae.vit import Decoder, Encoder, ViTVAE

_INPUTS = ("x", "z")
_SETTINGS = re.compile(r"\{[^}]*\}")
_PART_OF = re.compile(r"(\w+)\.z\[([^\]]*)\]")
_TEMPORAL_OVERLAP = re.compile(r"temporal_tile_overlap_factor\s*=\s*([\d.]+)")
_INSIDE = re.compile(r"(enc|dec)\.block(\d+)\.(qkv_normed|out)")
_UINT8 = re.compile(r"dec_uint8_frame(\d+)")


@torch.no_grad()
def check_vae(golden: Golden) -> FileReport:
    """Every output of every case, named `case.quantity`, from the inputs `case.x` (video) and `case.z` (latents)."""
    report = FileReport(golden.name)
    vae = _load(golden)
    for name, expected in golden.tensors.items():
        case, quantity = name.split(".", 1)
        if quantity not in _INPUTS:
            ours = _Case(golden, case, vae).compute(quantity)
            if _INSIDE.fullmatch(quantity):
                ours = ours[:, : expected.shape[1]]  # only the first tokens are kept
            report.compare(name, ours, expected, EXACT if expected.dtype is torch.uint8 else FLOAT)
    return report


def _load(golden: Golden) -> ViTVAE:
    weights = golden.sibling(golden.about["weights"])
    vae = ViTVAE(VaeConfig.from_official(weights.about["config"]))
    vae.load_state_dict({name: value.float() for name, value in weights.tensors.items()}, strict=True)
    return vae.float().eval()


@dataclass(frozen=True)
class _Case:
    """One case and what the manifest says of it in words."""

    golden: Golden
    name: str
    vae: ViTVAE

    def compute(self, quantity: str) -> torch.Tensor:
        if quantity == "mean":
            tiling = self._tiling()
            return encode_tiled(self.vae, self._video(), tiling) if tiling else self.vae.encode(self._video())
        if quantity == "moments":
            return self.vae.moments(self._video())
        if quantity == "dec":
            tiling = self._tiling()
            return decode_tiled(self.vae, self._latents(), tiling) if tiling else self.vae.decode(self._latents())
        if inside := _INSIDE.fullmatch(quantity):
            return self._inside(*inside.groups())
        if frame := _UINT8.fullmatch(quantity):
            # From the golden video: truncation would turn a rounding error of ours into a whole level.
            return to_uint8(self._tensor("dec")[0, :, int(frame[1])])
        raise MotionCacheError(f"{self.golden.path}: no check knows the tensor {self.name}.{quantity}")

    def _tensor(self, quantity: str) -> torch.Tensor:
        name = f"{self.name}.{quantity}"
        if name not in self.golden.tensors:
            raise MotionCacheError(f"{self.golden.path} lacks {name}")
        return self.golden.tensors[name].float()

    def _video(self) -> torch.Tensor:
        return self._tensor("x")

    def _latents(self) -> torch.Tensor:
        """The case's own, a part of another case's, or else the golden mean."""
        if part := self._part_of():
            source, window = part
            return source._tensor("z")[window]
        return self._tensor("z" if f"{self.name}.z" in self.golden.tensors else "mean")

    def _words(self) -> str:
        return self.golden.about["cases"].get(self.name, "")

    def _part_of(self) -> "tuple[_Case, tuple[slice, ...]] | None":
        found = _PART_OF.search(self._words())
        if found is None:
            return None
        return replace(self, name=found[1]), tuple(_slice(text) for text in found[2].split(","))

    def _tiling(self) -> Tiling | None:
        """The settings in the case's words, or those of the case it takes a part of; None: not tiled."""
        part, settings = self._part_of(), _SETTINGS.search(self._words())
        tiling = part[0]._tiling() if part else None
        if settings:
            tiling = _official(ast.literal_eval(settings[0]))
        overlap = _TEMPORAL_OVERLAP.search(self._words())
        return replace(tiling, temporal_overlap=float(overlap[1])) if tiling and overlap else tiling

    def _inside(self, half: str, index: str, quantity: str) -> torch.Tensor:
        """What block `index` of the encoder or decoder gives, or its attention's normalised queries, keys, values."""
        trunk: Encoder | Decoder = self.vae.encoder if half == "enc" else self.vae.decoder
        block = trunk.blocks[int(index)]
        assert isinstance(block, Block)
        seen: list[tuple[torch.Tensor, torch.Tensor]] = []

        def keep(_: nn.Module, given: tuple[torch.Tensor, ...], out: torch.Tensor) -> None:
            seen.append((given[0], out))

        hook = block.register_forward_hook(keep)
        try:
            self.vae.encode(self._video()) if half == "enc" else self.vae.decode(self._latents())
        finally:
            hook.remove()
        ((given, out),) = seen
        return out if quantity == "out" else block.attn.normalised_qkv(given)


def _official(settings: Mapping[str, Any]) -> Tiling:
    return Tiling(
        frames=settings["tile_sample_min_length"],
        height=settings["tile_sample_min_height"],
        width=settings["tile_sample_min_width"],
        spatial_overlap=settings["spatial_tile_overlap_factor"],
        temporal_overlap=settings["temporal_tile_overlap_factor"],
    )


def _slice(text: str) -> slice:
    """`:3`, `1:`, `1:3` or `:`."""
    bounds = [int(bound) if bound.strip() else None for bound in text.split(":")]
    if len(bounds) != 2:
        raise MotionCacheError(f"the manifest takes a part {text.strip()!r} of a tensor; expected start:stop")
    return slice(*bounds)


def to_uint8(video: torch.Tensor) -> torch.Tensor:
    """Pixels as the official code writes them: [-1, 1] to 0 .. 255, clamped and rounded down; same shape."""
    return (video.float() * 127.5 + 127.5).clamp(0, 255).to(torch.uint8)
