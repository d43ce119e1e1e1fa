"""MAGI-1 in the habits of diffusers: `MagiPipeline.from_pretrained(folder)`, `pipe(prompt)`, `pipe.stream(prompt)`."""

import itertools
import logging
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from motioncache.errors import MotionCacheError
from motioncache.field_types import shown
from motioncache.latents import check_latents
from motioncache_magi.given.frames import Frames, image_frames, video_frames
from motioncache_magi.given.pictures import Picture
from motioncache_magi.loading.checkpoint import load_dit, load_vae
from motioncache_magi.loading.folders import Folders
from motioncache_magi.model.compiled import unwrapped
from motioncache_magi.model.config import MagiConfig
from motioncache_magi.model.dit import VideoDiT
from motioncache_magi.model.packed import Text
from motioncache_magi.request import Plan, Request, check_noise, draw_noise, noise_shape
from motioncache_magi.sampling.guidance import Guidance, deciding_branch
from motioncache_magi.sampling.options import AUTOMATIC, MemoryOptions
from motioncache_magi.sampling.sampler import Sampler, Settings
from motioncache_magi.text.caption import clean_caption
from motioncache_magi.text.chunks import ChunkText, chunk_text
from motioncache_magi.text.kept import KeptText
from motioncache_magi.text.prompt import T5Text
from motioncache_magi.text.special_tokens import SpecialTokens, TextSwitches
from motioncache_magi.vae.codec import VideoCodec
from motioncache_magi.vae.vit import ViTVAE

logger = logging.getLogger(__name__)

WEIGHTS = (None, "fp8")
"""How weights are kept: in the model's dtype, or as an fp8 checkpoint holds them."""


@dataclass(frozen=True, slots=True)
class MagiOutput:
    """`frames`: one video, as `output_type` says.

    np: float32 `[1, frames, height, width, 3]` in [0, 1]; pt: `[1, frames, 3, height, width]` in [0, 1]; pil: a list of
    one list of pictures; latent: `[1, channels, latent_frames, height / 8, width / 8]`.
    """

    frames: Any


class MagiPipeline:
    """The model, its autoencoder and its text encoder; loaded once, it serves any number of prompts."""

    create_sampler: Callable[..., Sampler] = Sampler
    """Makes the sampler of each video; `motioncache.enable_cache` puts one on the instance that reuses."""

    def __init__(
        self,
        transformer: VideoDiT,
        vae: ViTVAE,
        text_encoder: T5Text | KeptText,
        config: MagiConfig,
        *,
        special_tokens: SpecialTokens | None = None,
        device: str = "cpu",
        offload: bool = False,
        options: MemoryOptions = AUTOMATIC,
    ) -> None:
        self.transformer = transformer
        self.vae = vae
        self.text_encoder: T5Text | KeptText = text_encoder
        self.config = config
        self.special_tokens = special_tokens
        self.device = device
        self._offload = offload
        self._options = options
        self._progress: dict[str, Any] = {}

    @property
    def transformer(self) -> VideoDiT:
        """The model; one that `torch.compile(model)` has wrapped comes without the wrapper, its layers compiled."""
        return self._transformer

    @transformer.setter
    def transformer(self, model: Any) -> None:
        self._transformer: VideoDiT = unwrapped(model)

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        *,
        variant: str | None = None,
        config: str | Path | None = None,
        special_tokens: str | Path | None = None,
        torch_dtype: torch.dtype | None = None,
        device: str = "cpu",
        offload: bool = False,
        chunks_at_once: int | None = None,
        weights: str | None = None,
        t5_dtype: torch.dtype = torch.float32,
    ) -> "MagiPipeline":
        """Load a folder in the layout of the official repository.

        Args:
            folder: holds `magi/VARIANT`, `vae` and `t5`, itself or in `ckpt`.
            variant: which one, where there are several.
            config: a JSON file in the official format; see `Folders.find` for what is used without one.
            special_tokens: the official `special_tokens.npz`, which released models need; one beside `magi` is found.
            torch_dtype, device: what the model computes in, in place of `params_dtype`, and where.
            offload: keep the autoencoder on the CPU while it is not needed; the text encoder is kept there anyway.
            chunks_at_once: see `MemoryOptions`.
            weights: `fp8` keeps those of an fp8 checkpoint as they are, and makes each `torch_dtype` while it is
                applied; None does so once and for all.
            t5_dtype: what the text encoder computes in, and is held in on the host.
        """
        _check_weights(weights)
        places = {"config": config, "special_tokens": special_tokens}
        found = Folders.find(Path(folder), variant=variant, **{k: Path(v) if v else None for k, v in places.items()})
        settings = found.config if torch_dtype is None else _computing_in(torch_dtype, found.config)
        channels, text_length = settings.model.caption_channels, settings.model.caption_max_length
        pipeline = cls(
            load_dit(found.variant, settings, device, keep_fp8=weights == "fp8"),
            load_vae(found.vae, settings.model.dtype, "cpu" if offload else device),
            T5Text(found.t5, text_length=text_length, device=settings.text_device(device), dtype=t5_dtype),
            settings,
            special_tokens=SpecialTokens.read(found.special_tokens, channels) if found.special_tokens else None,
            device=device,
            offload=offload,
            options=MemoryOptions(chunks_at_once=chunks_at_once),
        )
        found.check_parts(pipeline.vae.config, pipeline.text_encoder.channels)
        return pipeline

    def __getstate__(self) -> dict[str, Any]:
        """What a copy or a pickle takes along: all but a cache, which belongs to this pipeline."""
        return {name: value for name, value in vars(self).items() if name != "create_sampler"}

    def set_progress_bar_config(self, **options: Any) -> None:
        """Options of tqdm, such as `disable=True`."""
        self._progress = options

    def __call__(self, prompt: str, *, output_type: str = "np", **call: Any) -> MagiOutput:
        """Sample one video of `num_frames` frames; see `stream` for the arguments."""
        chunks = list(self.stream(prompt, output_type=output_type, **call))
        if output_type == "pil":
            return MagiOutput([[picture for chunk in chunks for picture in chunk]])
        join = np.concatenate if output_type == "np" else torch.cat
        return MagiOutput(join(chunks, 1 if output_type == "latent" else 0)[None])  # pyright: ignore

    def stream(
        self,
        prompt: str,
        *,
        image: Picture | Path | str | None = None,
        video: Frames | Path | str | None = None,
        num_frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int | None = None,
        generator: torch.Generator | None = None,
        latents: torch.Tensor | None = None,
        output_type: str = "np",
        switches: TextSwitches | None = None,
        on_step: Callable[[float], object] | None = None,
    ) -> Generator[Any]:
        """Yield the frames of each chunk as soon as it is clean.

        Args:
            image: a picture that the video starts from, which counts as its first frames; see `Picture`.
            video: what the video goes on from: a file, or frames at the model's rate; see `Frames`. The last 32 count.
            num_frames, height, width: new frames, to which the last chunk is cut, and pixels, multiples of 16.
            num_inference_steps: denoise steps of every chunk, a multiple of the window.
            generator: draws the noise, which otherwise comes from the configuration's `seed`.
            latents: noise of the chunks that are sampled, `[1, channels, latent_frames, height / 8, width / 8]`.
            output_type, switches: see `MagiOutput`, without the batch dimension, and `TextSwitches`.
            on_step: called after each model call, with the share of all that are done.

        Sizes that are not passed are the configuration's. What does not fit raises `MotionCacheError`.
        """
        runtime = self.config.runtime
        request = Request(
            prompt=prompt,
            image=image,
            video=video,
            num_frames=runtime.num_frames if num_frames is None else num_frames,
            height=runtime.video_size_h if height is None else height,
            width=runtime.video_size_w if width is None else width,
            num_inference_steps=runtime.num_steps if num_inference_steps is None else num_inference_steps,
            generator=generator,
            latents=latents,
            output_type=output_type,
            switches=TextSwitches() if switches is None else switches,
        )
        return self._stream(request, self._plan(request), on_step)

    def _plan(self, request: Request) -> Plan:
        """What is sampled for a request, with everything checked that it depends on."""
        patch = self.vae.config.patch_size
        if request.height % (2 * patch) or request.width % (2 * patch):
            found = f"{request.height} and {request.width}"
            raise MotionCacheError(f"height and width must be multiples of {2 * patch}, not {found}")
        plan = Plan.of(self.config, request, self._encode_prefix(request))
        if request.latents is not None:
            check_noise(request.latents, noise_shape(self.config, request, plan.schedule.chunks, patch))
        return plan

    def _stream(self, request: Request, plan: Plan, on_step: Callable[[float], object] | None) -> Generator[Any]:
        chunk_frames = self.config.runtime.chunk_width
        missing = request.num_frames
        with tqdm(total=plan.schedule.total, **{"desc": "denoise steps", **self._progress}) as bar:
            done = itertools.count(1)

            def step_done() -> None:
                bar.update()
                if on_step is not None:
                    on_step(next(done) / plan.schedule.total)

            for chunk, latents in self._sampler(request, plan, step_done):
                check_latents(latents, first_frame=chunk * chunk_frames)
                hidden = max(plan.hidden_frames - chunk * chunk_frames, 0)
                if request.output_type == "latent":
                    yield latents[:, hidden:].clone()
                elif missing > 0:
                    frames = self._codec.decode_chunk(latents, hidden=hidden)[:missing]
                    missing -= len(frames)
                    yield _convert(frames, request.output_type)

    def _sampler(self, request: Request, plan: Plan, step_done: Callable[[], None]) -> Sampler:
        schedule = plan.schedule
        texts = self._texts(request, plan)
        noise = request.latents
        if noise is None:
            noise = draw_noise(self.config, request, plan, patch=self.vae.config.patch_size, device=self.device)
        return self.create_sampler(
            self.transformer,
            Settings.of(self.config, schedule, self._options),
            noise[0].to(self.device, torch.float32, copy=True),
            prefix=plan.prefix,
            captions=self._embed(texts.caption[: schedule.chunks], texts.caption_mask[: schedule.chunks]),
            null=self._embed(texts.null[:1], texts.null_mask[:1])[0],
            on_step=step_done,
        )

    def _texts(self, request: Request, plan: Plan) -> ChunkText:
        caption, mask = self.text_encoder(request.prompt)
        if not clean_caption(request.prompt):
            logger.warning("nothing is left of the prompt %r: the video is sampled without one", request.prompt)
            mask = torch.zeros_like(mask)
        return chunk_text(
            caption=caption,
            mask=mask,
            null_caption=self.transformer.y_embedder.null_caption_embedding,
            chunks=plan.announced_chunks,
            prefix_chunks=plan.schedule.prefix_chunks,
            special_tokens=self.special_tokens,
            switches=request.switches,
        )

    @torch.inference_mode()
    def _embed(self, captions: torch.Tensor, masks: torch.Tensor) -> list[Text]:
        return [
            Text(self.transformer.embed_text(caption[mask].to(self.device)))
            for caption, mask in zip(captions, masks, strict=True)
        ]

    def _encode_prefix(self, request: Request) -> torch.Tensor | None:
        """Latents of the given frames, `[channels, frames, height, width]`."""
        size = (request.height, request.width)
        if request.image is not None:
            frames = image_frames(request.image, *size)
        elif request.video is not None:
            frames = video_frames(request.video, *size, self.vae.config.patch_length, self.config.runtime.fps)
        else:
            return None
        return self._codec.encode(frames)

    @property
    def branch(self) -> str:
        """The branch of guidance whose decisions the others share."""
        return deciding_branch(Guidance.of(self.config))

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Decode the latents of a video; see `VideoCodec.decode`."""
        return self._codec.decode(latents)

    @property
    def _codec(self) -> VideoCodec:
        return VideoCodec(self.vae, self.config.runtime, device=self.device, offload=self._offload)


def _convert(frames: torch.Tensor, output_type: str) -> Any:
    if output_type == "pt":
        return frames
    pixels = frames.permute(0, 2, 3, 1).numpy()
    if output_type == "np":
        return pixels
    return [Image.fromarray(frame) for frame in (pixels * 255).round().astype(np.uint8)]


def _check_weights(weights: str | None) -> None:
    if weights not in WEIGHTS:
        raise MotionCacheError(f"weights must be null or fp8, not {shown(weights)}")


def _computing_in(dtype: torch.dtype, config: MagiConfig) -> MagiConfig:
    return replace(config, model=replace(config.model, params_dtype=str(dtype)))
