"""A video from text with the cache on: `python examples/text_to_video.py --prompt "A cat walks on the grass"`.

The official checkpoint needs a GPU. `--model MotionCache4SkyReels-V2/motioncache-tiny --size 64x96` runs on a CPU.
"""

import argparse
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan, SkyReelsV2DiffusionForcingPipeline, UniPCMultistepScheduler

import motioncache
from motioncache_eval.video import to_uint8, write_mp4

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--model", default="Skywork/SkyReels-V2-DF-1.3B-540P-Diffusers")
parser.add_argument("--prompt", default="a red circle moving right quickly over a teal background")
parser.add_argument("--preset", default="slow", help="exact, slow or fast; `motioncache presets` lists all")
parser.add_argument("--size", default="544x960", help="height x width")
parser.add_argument("--frames", type=int, default=97)
parser.add_argument("--steps", type=int, default=50)
parser.add_argument("--output", type=Path, default=Path("text_to_video.mp4"))
options = parser.parse_args()
height, width = map(int, options.size.split("x"))
device, dtype = ("cuda", torch.bfloat16) if torch.cuda.is_available() else ("cpu", torch.float32)

vae = AutoencoderKLWan.from_pretrained(options.model, subfolder="vae", dtype=torch.float32)
pipe = SkyReelsV2DiffusionForcingPipeline.from_pretrained(options.model, vae=vae, dtype=dtype).to(device)
if options.model.startswith("Skywork/"):  # the official text-to-video models are sampled with this shift
    pipe.scheduler = UniPCMultistepScheduler.from_config(pipe.scheduler.config, flow_shift=8.0)

motioncache.enable_cache(pipe, preset=options.preset)
frames = pipe(
    options.prompt,
    height=height,
    width=width,
    num_frames=options.frames,
    num_inference_steps=options.steps,
    guidance_scale=6.0,
    ar_step=5,
    causal_block_size=5,
    generator=torch.Generator().manual_seed(0),
    output_type="pt",
).frames[0]
print(motioncache.summary(pipe))
write_mp4(options.output, to_uint8(frames), fps=24)
