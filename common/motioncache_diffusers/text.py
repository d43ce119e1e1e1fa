"""Encodes each prompt of many videos once, while the text encoder waits on the host."""

from functools import lru_cache
from typing import Any

import torch

TEXT_LENGTH = 512
"""Tokens to which the pipelines pad prompts."""

KEPT = 16
"""Prompts whose embeddings are kept; the videos of one prompt follow each other."""


class Prompts:
    """The prompts of a pipeline's jobs. Until the first is encoded ahead, the pipeline encodes them in each call."""

    def __init__(self, pipeline: Any) -> None:
        self._pipeline = pipeline
        self._encoder: Any = None
        self._embed = lru_cache(KEPT)(self._encode)

    def encode(self, job: Any) -> None:
        """Encode what a job's call needs, and keep it. From the first on, the text encoder waits on the host."""
        if self._encoder is None:
            self._encoder = self._pipeline.text_encoder
        self.arguments(job)

    def arguments(self, job: Any) -> dict[str, Any]:
        """What the pipeline is called with: the texts, or their embeddings once prompts are encoded ahead."""
        if self._encoder is None:
            return {"prompt": job.prompt, "negative_prompt": job.negative_prompt}
        guided = job.guidance_scale > 1
        return {
            "prompt": None,
            "prompt_embeds": self._embed(job.prompt, job.cpu_offload),
            "negative_prompt_embeds": self._embed(job.negative_prompt, job.cpu_offload) if guided else None,
        }

    @torch.no_grad()
    def _encode(self, text: str, offloaded: bool) -> torch.Tensor:
        """Embeddings as the pipeline makes them, `[1, TEXT_LENGTH, channels]`, on its device.

        Args:
            offloaded: the pipeline itself keeps the encoder on the host.
        """
        pipeline, encoder = self._pipeline, self._encoder
        if not offloaded:
            pipeline.text_encoder = encoder.to(pipeline.transformer.device)
        try:
            return pipeline.encode_prompt(text, do_classifier_free_guidance=False, max_sequence_length=TEXT_LENGTH)[0]
        finally:
            if not offloaded:  # a part on the host would be taken for the device of the whole pipeline
                pipeline.text_encoder = None
                encoder.to("cpu")
