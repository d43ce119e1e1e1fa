"""Decodes a video chunk by chunk, with what Wan's causal autoencoder remembers of the frames before."""

from typing import Any

import torch

from motioncache.errors import MotionCacheError
from motioncache_diffusers.autoencoder import scaled, to_frames


class ChunkDecoder:
    """Decodes the chunks of one video in order; the frames are those of decoding all latents at once.

    Args:
        pipeline: whose autoencoder decodes; in between, others may use it.

    Raises:
        MotionCacheError: if the autoencoder decodes in tiles, which know nothing of the chunk before.
    """

    def __init__(self, pipeline: Any) -> None:
        vae: Any = pipeline.vae
        if vae.use_tiling:
            raise MotionCacheError(
                "the autoencoder decodes in tiles, which cannot be streamed: call vae.disable_tiling()"
            )
        self._vae = vae
        self._remembered: list[Any] | None = None

    @torch.inference_mode()
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Turn a chunk's latents `[1, channels, frames, height, width]` into float frames in [0, 1].

        Returns:
            `[frames, 3, height, width]` on the host.
        """
        vae = self._vae
        offloading = getattr(vae, "_hf_hook", None)
        if offloading is not None:
            offloading.pre_forward(vae)
        latents = scaled(vae, latents.to(next(vae.parameters()).device))
        frames = [self._decode_frame(frame) for frame in vae.post_quant_conv(latents).split(1, dim=2)]
        vae.clear_cache()
        if offloading is not None:
            vae.to("cpu")
        return to_frames(torch.cat(frames, dim=2).clamp(-1, 1))

    def _decode_frame(self, frame: torch.Tensor) -> torch.Tensor:
        vae = self._vae
        first = self._remembered is None
        if self._remembered is None:
            vae.clear_cache()
            self._remembered = vae._feat_map
        return vae.decoder(frame, feat_cache=self._remembered, feat_idx=[0], first_chunk=first)
