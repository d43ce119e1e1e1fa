"""Videos to latents and back, with tiles that fit in memory."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from motioncache_magi.model.config import RuntimeConfig
from motioncache_magi.vae.tiling import Tiling, decode_tiled, encode_tiled
from motioncache_magi.vae.vit import ViTVAE


class VideoCodec:
    """Encodes and decodes with an autoencoder, as a model's runtime configuration says.

    Args:
        offload: keep the autoencoder on the CPU while it is not needed.
    """

    def __init__(self, vae: ViTVAE, runtime: RuntimeConfig, *, device: str, offload: bool) -> None:
        self._vae = vae
        self._runtime = runtime
        self._device = device
        self._offload = offload
        self._tiling = Tiling.for_frame_rate(runtime.fps, patch_length=vae.config.patch_length)

    def encode(self, frames: torch.Tensor) -> torch.Tensor:
        """Encode frames in [-1, 1], `[1, 3, frames, height, width]`, to `[channels, latent_frames, rows, columns]`."""
        with self._on_device(), torch.inference_mode():
            encoded = encode_tiled(self._vae, frames.to(self._device), self._tiling)
        return encoded[0].float() * self._runtime.scale_factor

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Decode the latents `[1, channels, frames, height, width]` of a video, chunk by chunk.

        Returns:
            Float32 `[frames, 3, height, width]` in [0, 1] on the host.
        """
        size, total = self._runtime.chunk_width, latents.shape[2]
        ends = range(total % size or size, total + 1, size)  # the first chunk of a video that goes on may be short
        starts = [0, *ends[:-1]]
        chunks = [self.decode_chunk(latents[0, :, a:b]) for a, b in zip(starts, ends, strict=True)]
        if ends[0] == 1 < total:  # alone, it would be a still of one frame
            chunks[0] = self.decode_chunk(latents[0, :, :2])[: self._vae.config.patch_length]
        return torch.cat(chunks)

    def decode_chunk(self, latents: torch.Tensor, *, hidden: int = 0) -> torch.Tensor:
        """Decode `[channels, frames, height, width]` to float32 `[frames, 3, height, width]` in [0, 1] on the host.

        Args:
            hidden: latent frames at the beginning whose frames are left out.
        """
        if hidden and hidden == latents.shape[1] - 1:  # alone, the last one would be a still of one frame
            return self.decode_chunk(latents[:, -2:])[self._vae.config.patch_length :]
        latents = latents[:, hidden:]
        scaled = latents[None].to(self._device) / self._runtime.scale_factor
        tiling, patch = self._tiling, self._vae.config.patch_length
        with self._on_device(), torch.inference_mode():
            alone = scaled.shape[2] > 1 and scaled.shape[2] % (tiling.frames // patch) == 1
            video = decode_tiled(self._vae, scaled[:, :, :-1] if alone else scaled, tiling)
            if alone:  # a tile of one latent frame would come out as a still; it is decoded behind the one before
                video = torch.cat([video, decode_tiled(self._vae, scaled[:, :, -2:], tiling)[:, :, patch:]], dim=2)
        return ((video[0].float() + 1) / 2).clamp(0, 1).permute(1, 0, 2, 3).cpu()

    @contextmanager
    def _on_device(self) -> Iterator[None]:
        """Move the autoencoder to the device while it is needed."""
        if not self._offload:
            yield
            return
        self._vae.to(self._device)
        try:
            yield
        finally:
            self._vae.to("cpu")
