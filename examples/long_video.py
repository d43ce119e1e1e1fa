"""A video of several windows: `python examples/long_video.py --frames 177`.

A window has 97 frames. Each further one goes on from the last 17 frames of the one before, and adds 80 frames.
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
parser.add_argument("--size", default="544x960", help="height x width")
parser.add_argument("--frames", type=int, default=177, help="97 + 80 n")
parser.add_argument("--window", type=int, default=97, help="frames of a window")
parser.add_argument("--steps", type=int, default=50)
parser.add_argument("--output", type=Path, default=Path("long_video.mp4"))
options = parser.parse_args()
height, width = map(int, options.size.split("x"))
device, dtype = ("cuda", torch.bfloat16) if torch.cuda.is_available() else ("cpu", torch.float32)

vae = AutoencoderKLWan.from_pretrained(options.model, subfolder="vae", dtype=torch.float32)
pipe = SkyReelsV2DiffusionForcingPipeline.from_pretrained(options.model, vae=vae, dtype=dtype).to(device)
if options.model.startswith("Skywork/"):  # the official text-to-video models are sampled with this shift
    pipe.scheduler = UniPCMultistepScheduler.from_config(pipe.scheduler.config, flow_shift=8.0)

torch.manual_seed(0)  # diffusers draws the noise of addnoise_condition from the global generator
with motioncache.cached(pipe, preset="slow") as statistics:
    frames = pipe(
        options.prompt,
        height=height,
        width=width,
        num_frames=options.frames,
        base_num_frames=options.window,
        overlap_history=17,
        addnoise_condition=20,
        num_inference_steps=options.steps,
        guidance_scale=6.0,
        ar_step=5,
        causal_block_size=5,
        output_type="pt",
    ).frames[0]
print(statistics)  # a row for each chunk of each window
write_mp4(options.output, to_uint8(frames), fps=24)
