"""MAGI-1 in the habits of diffusers: `MagiPipeline.from_pretrained(folder)`, `pipe(prompt)`, `pipe.stream(prompt)`."""

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from motioncache.errors import MotionCacheError
from motioncache_magi.loading.checkpoint import load_dit, load_vae
from motioncache_magi.loading.folders import Folders
from motioncache_magi.model.config import MagiConfig
from motioncache_magi.model.dit import VideoDiT
from motioncache_magi.model.packed import Text
from motioncache_magi.sampling.guidance import Guidance, deciding_branch
from motioncache_magi.sampling.prefix import Frames, image_frames, video_frames
from motioncache_magi.sampling.sampler import Sampler, Settings
from motioncache_magi.sampling.schedule import WindowSchedule, time_schedule
from motioncache_magi.text.caption import clean_caption
from motioncache_magi.text.chunks import ChunkText, chunk_text
from motioncache_magi.text.prompt import T5Text
from motioncache_magi.text.special_tokens import SpecialTokens, TextSwitches
from motioncache_magi.vae.codec import VideoCodec
from motioncache_magi.vae.vit import ViTVAE

logger = logging.getLogger(__name__)

OUTPUT_TYPES = ("np", "pt", "pil", "latent")


@dataclass(frozen=True, slots=True)
class MagiOutput:
    """`frames`: one video, as `output_type` says.

    np: float32 `[1, frames, height, width, 3]` in [0, 1]; pt: `[1, frames, 3, height, width]` in [0, 1]; pil: a list of
    one list of pictures; latent: `[1, channels, latent_frames, height / 8, width / 8]`.
    """

    frames: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One call with everything filled in."""

    prompt: str
    num_frames: int
    height: int
    width: int
    steps: int
    prefix: torch.Tensor | None
    generator: torch.Generator | None
    latents: torch.Tensor | None
    switches: TextSwitches

    @property
    def prefix_frames(self) -> int:
        """Latent frames of the prefix."""
        return 0 if self.prefix is None else self.prefix.shape[1]


class MagiPipeline:
    """The model, its autoencoder and its text encoder; loaded once, it serves any number of prompts."""

    create_sampler: Callable[..., Sampler] = Sampler
    """Makes the sampler of each video; `motioncache.enable_cache` puts one on the instance that reuses."""

    def __init__(
        self,
        transformer: VideoDiT,
        vae: ViTVAE,
        text_encoder: T5Text,
        config: MagiConfig,
        *,
        special_tokens: SpecialTokens | None = None,
        device: str = "cpu",
        offload: bool = False,
    ) -> None:
        self.transformer = transformer
        self.vae = vae
        self.text_encoder = text_encoder
        self.config = config
        self.special_tokens = special_tokens
        self.device = device
        self._offload = offload
        self._progress: dict[str, Any] = {}

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
    ) -> "MagiPipeline":
        """Load a folder in the layout of the official repository.

        Args:
            folder: holds `magi/VARIANT`, `vae` and `t5`, itself or in `ckpt`.
            variant: which one, where there are several.
            config: a JSON file in the official format; see `Folders.find` for what is used without one.
            special_tokens: the official `special_tokens.npz`; one beside `magi` is found without being named. Without
                any, captions are used as they are, which the released models were not trained for.
            torch_dtype: in place of the configuration's `params_dtype`.
            device: where the model runs.
            offload: keep text encoder and autoencoder on the CPU while they are not needed.
        """
        found = Folders.find(
            Path(folder),
            variant=variant,
            config=Path(config) if config else None,
            special_tokens=Path(special_tokens) if special_tokens else None,
        )
        settings = found.config
        if torch_dtype is not None:
            settings = replace(settings, model=replace(settings.model, params_dtype=str(torch_dtype)))
        channels, text_length = settings.model.caption_channels, settings.model.caption_max_length
        pipeline = cls(
            load_dit(found.variant, settings, device),
            load_vae(found.vae, settings.model.dtype, "cpu" if offload else device),
            T5Text(found.t5, text_length=text_length, device=device, offload=offload),
            settings,
            special_tokens=SpecialTokens.read(found.special_tokens, channels) if found.special_tokens else None,
            device=device,
            offload=offload,
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
        image: Image.Image | Path | str | None = None,
        video: Frames | Path | str | None = None,
        num_frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int | None = None,
        generator: torch.Generator | None = None,
        latents: torch.Tensor | None = None,
        output_type: str = "np",
        switches: TextSwitches | None = None,
    ) -> Iterator[Any]:
        """Yield the frames of each chunk as soon as it is clean.

        Args:
            image, video: what the video starts with: a picture, or the frames that it goes on from (the last 32).
            num_frames: new frames; the last chunk is cut to it.
            height, width: multiples of 16.
            num_inference_steps: denoise steps of every chunk, a multiple of the window.
            latents: noise of the whole video, `[1, channels, latent_frames, height / 8, width / 8]`.
            output_type: see `MagiOutput`; the batch dimension is left out.
            switches: which special tokens are put in front of the caption.

        Sizes that are not passed come from the model's configuration. Sizes that do not fit, and given frames that
        cannot be used, raise `MotionCacheError`.
        """
        if output_type not in OUTPUT_TYPES:
            raise MotionCacheError(f"output_type must be one of {', '.join(OUTPUT_TYPES)}, not {output_type!r}")
        runtime = self.config.runtime
        height, width = self._size(height, width)
        request = Request(
            prompt=prompt,
            num_frames=num_frames or runtime.num_frames,
            height=height,
            width=width,
            steps=num_inference_steps or runtime.num_steps,
            prefix=self._encode_prefix(image, video, height, width),
            generator=generator,
            latents=latents,
            switches=switches or TextSwitches(),
        )
        return self._stream(request, self._schedule(request), output_type)

    def _size(self, height: int | None, width: int | None) -> tuple[int, int]:
        """The size of a video, checked."""
        height, width = height or self.config.runtime.video_size_h, width or self.config.runtime.video_size_w
        step = 2 * self.vae.config.patch_size
        if height % step or width % step or height < step or width < step:
            raise MotionCacheError(f"height and width must be multiples of {step}, not {height} and {width}")
        return height, width

    def _stream(self, request: Request, schedule: WindowSchedule, output_type: str) -> Iterator[Any]:
        chunk_frames, prefix_frames = self.config.runtime.chunk_width, request.prefix_frames
        missing = request.num_frames
        with tqdm(total=schedule.total, **{"desc": "denoise steps", **self._progress}) as bar:
            for chunk, latents in self._sampler(request, schedule, bar):
                # An image is the first frame of the video; the frames of a given video are not repeated.
                repeated = 0 if prefix_frames == 1 else max(prefix_frames - chunk * chunk_frames, 0)
                new = latents[:, repeated:].clone()
                if output_type == "latent":
                    yield new
                elif missing > 0:
                    frames = self._codec.decode_chunk(new)[:missing]
                    missing -= len(frames)
                    yield _convert(frames, output_type)

    def _schedule(self, request: Request) -> WindowSchedule:
        runtime, prefix_frames = self.config.runtime, request.prefix_frames
        new = math.ceil(request.num_frames / runtime.temporal_downsample_factor)
        if request.num_frames < 1:
            raise MotionCacheError(f"num_frames must be 1 or more, not {request.num_frames}")
        return WindowSchedule(
            chunks=math.ceil((new + prefix_frames) / runtime.chunk_width),
            prefix_chunks=prefix_frames // runtime.chunk_width,
            steps=request.steps,
            window=runtime.window_size,
            ranges=runtime.noise2clean_kvrange,
            clean_range=runtime.clean_chunk_kvrange,
            shortcut_mode=self.config.engine.shortcut_mode,
        )

    def _sampler(self, request: Request, schedule: WindowSchedule, bar: tqdm) -> Sampler:
        model, runtime = self.config.model, self.config.runtime
        texts = self._texts(request, schedule)
        frames = schedule.chunks * runtime.chunk_width
        patch = self.vae.config.patch_size
        shape = (1, model.latent_channels, frames, request.height // patch, request.width // patch)
        latents = request.latents
        if latents is None:
            device = request.generator.device if request.generator is not None else self.device
            latents = torch.randn(shape, generator=request.generator, device=device)
        if latents.shape != shape:
            raise MotionCacheError(f"latents have the shape {tuple(latents.shape)}, and this call needs {shape}")
        return self.create_sampler(
            self.transformer,
            Settings(
                schedule=schedule,
                times=time_schedule(request.steps, shortcut_mode=schedule.shortcut_mode),
                guidance=Guidance.of(self.config),
                chunk_frames=runtime.chunk_width,
                clean_time=runtime.clean_t,
                distilled=self.config.engine.distill,
            ),
            latents[0].to(self.device, torch.float32, copy=True),
            prefix=request.prefix,
            captions=self._embed(texts.caption, texts.caption_mask),
            null=self._embed(texts.null[:1], texts.null_mask[:1])[0],
            on_step=lambda: bar.update(),
        )

    def _texts(self, request: Request, schedule: WindowSchedule) -> ChunkText:
        caption, mask = self.text_encoder(request.prompt)
        if not clean_caption(request.prompt):
            logger.warning("nothing is left of the prompt %r: the video is sampled without one", request.prompt)
            mask = torch.zeros_like(mask)
        return chunk_text(
            caption=caption,
            mask=mask,
            null_caption=self.transformer.y_embedder.null_caption_embedding,
            chunks=schedule.chunks,
            prefix_chunks=schedule.prefix_chunks,
            special_tokens=self.special_tokens,
            switches=request.switches,
        )

    @torch.inference_mode()
    def _embed(self, captions: torch.Tensor, masks: torch.Tensor) -> list[Text]:
        return [
            Text(self.transformer.embed_text(caption[mask].to(self.device)))
            for caption, mask in zip(captions, masks, strict=True)
        ]

    def _encode_prefix(
        self, image: Image.Image | Path | str | None, video: Frames | Path | str | None, height: int, width: int
    ) -> torch.Tensor | None:
        """Latents of the given frames, `[channels, frames, height, width]`."""
        if image is not None and video is not None:
            raise MotionCacheError("pass an image to start from or a video to go on from, not both")
        if image is None and video is None:
            return None
        if image is not None:
            frames = image_frames(image, height, width)
        else:
            assert video is not None
            frames = video_frames(video, height, width, self.vae.config.patch_length)
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
