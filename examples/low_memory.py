"""A video on a GPU with little memory: `python examples/low_memory.py --offload group`.

bfloat16, a shorter window, tiled decoding, and one of two ways to keep weights on the CPU:
    model  text encoder, transformer and autoencoder are on the GPU one at a time
    group  so are the layers of the text encoder and the transformer: slower, and the weights hardly count
`--kv` says how keys and values are kept: docs/memory.md says how large they are, and what each way costs.
"""

import argparse
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan, SkyReelsV2DiffusionForcingPipeline

import motioncache
from motioncache_eval.video import to_uint8, write_mp4

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--model", default="Skywork/SkyReels-V2-DF-1.3B-540P-Diffusers")
parser.add_argument("--prompt", default="a red circle moving right quickly over a teal background")
parser.add_argument("--offload", default="model", choices=["model", "group"])
parser.add_argument("--kv", default="int8", choices=["model", "int8", "host"])
parser.add_argument("--size", default="544x960", help="height x width")
parser.add_argument("--frames", type=int, default=57)
parser.add_argument("--steps", type=int, default=50)
parser.add_argument("--output", type=Path, default=Path("low_memory.mp4"))
options = parser.parse_args()
height, width = map(int, options.size.split("x"))
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

vae = AutoencoderKLWan.from_pretrained(options.model, subfolder="vae", dtype=torch.float32)
pipe = SkyReelsV2DiffusionForcingPipeline.from_pretrained(options.model, vae=vae, dtype=torch.bfloat16)
pipe.vae.enable_tiling()
if options.offload == "group":
    pipe.enable_group_offload(onload_device=device, offload_type="leaf_level", exclude_modules="vae")
    pipe.vae.to(device)
elif device.type == "cuda":
    pipe.enable_model_cpu_offload()

motioncache.enable_cache(pipe, preset="slow", kv=options.kv, split_guidance=True)
frames = pipe(
    options.prompt,
    height=height,
    width=width,
    num_frames=options.frames,
    base_num_frames=options.frames,
    num_inference_steps=options.steps,
    guidance_scale=6.0,
    ar_step=5,
    causal_block_size=5,
    generator=torch.Generator().manual_seed(0),
    output_type="pt",
).frames[0]
print(motioncache.summary(pipe))
if torch.cuda.is_available():
    print(f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB of the GPU were allocated at most")
write_mp4(options.output, to_uint8(frames), fps=24)
