"""The video autoencoder: golden data of the published code, the released sizes, and tiles summed by hand."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from motioncache.errors import ConfigError
from motioncache_magi.parity.golden import Golden
from motioncache_magi.parity.vae import check_vae, to_uint8
from motioncache_magi.vae.config import Grid, VaeConfig
from motioncache_magi.vae.tiling import Tiling, decode_tiled, encode_tiled
from motioncache_magi.vae.vit import ViTVAE

FIXTURES = Path(os.environ.get("MOTIONCACHE_FIXTURES", Path(__file__).parents[3] / "shared" / "fixtures")) / "magi"
FILES = sorted(FIXTURES.glob("vae_cases*.safetensors"))


def official(**changes: Any) -> dict[str, Any]:
    """The released `config.json`, with fields of `ddconfig` changed, or left out where the change is `...`."""
    ddconfig = {
        "video_size": 256, "video_length": 16, "patch_size": 8, "patch_length": 4, "in_chans": 3, "z_chans": 16,
        "double_z": True, "embed_dim": 1024, "depth": 24, "num_heads": 16, "mlp_ratio": 4, "qkv_bias": True,
        "with_cls_token": True, "norm_code": False, "ln_in_attn": True, "conv_last_layer": True, "use_rope": False,
        "use_final_proj": False,
    }  # fmt: skip
    ddconfig = {name: value for name, value in {**ddconfig, **changes}.items() if value is not ...}
    return {"_class_name": "ViTVAE", "model_type": "vit", "ddconfig": ddconfig}


@pytest.fixture
def vae() -> ViTVAE:
    """Patches of 4 x 4 x 4 pixels, trained on a grid of 2 x 2 x 2."""
    sizes = {"video_size": 8, "video_length": 8, "patch_size": 4, "z_chans": 4, "embed_dim": 64, "depth": 2}
    torch.manual_seed(0)
    model = ViTVAE(VaeConfig.from_official(official(**sizes, num_heads=4))).eval().requires_grad_(False)
    for parameter in (model.encoder.pos_embed, model.decoder.pos_embed, model.encoder.cls_token):
        torch.nn.init.normal_(parameter)
    return model


class Pixels:
    """Latents are pixels: what tiling does is all there is to see."""

    patch: Grid = (1, 1, 1)

    def encode(self, video: torch.Tensor) -> torch.Tensor:
        return video

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return latents


class Scripted(Pixels):
    """Every tile is its number everywhere; the first is 1."""

    def __init__(self) -> None:
        self.tiles: list[list[int]] = []

    def encode(self, video: torch.Tensor) -> torch.Tensor:
        self.tiles.append(list(video.shape[2:]))
        return torch.full_like(video, len(self.tiles))

    decode = encode


# --- parity -----------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not FILES, reason="no golden data: set MOTIONCACHE_FIXTURES to the folder that holds magi/")
def test_all_golden_files_agree() -> None:
    reports = [check_vae(Golden(path)) for path in FILES]
    assert [str(report) for report in reports if not report.passed] == []


# --- the released autoencoder -----------------------------------------------------------------------------------------


def released_shapes() -> dict[str, tuple[int, ...]]:
    block = {
        "attn.qkv.weight": (3072, 1024), "attn.qkv.bias": (3072,),
        "attn.proj.weight": (1024, 1024), "attn.proj.bias": (1024,),
        "norm2.weight": (1024,), "norm2.bias": (1024,),
        "mlp.fc1.weight": (4096, 1024), "mlp.fc1.bias": (4096,),
        "mlp.fc2.weight": (1024, 4096), "mlp.fc2.bias": (1024,),
    }  # fmt: skip
    shapes: dict[str, tuple[int, ...]] = {
        "encoder.patch_embed.proj.weight": (1024, 3, 4, 8, 8), "encoder.patch_embed.proj.bias": (1024,),
        "encoder.last_layer.weight": (32, 1024), "encoder.last_layer.bias": (32,),
        "decoder.proj_in.weight": (1024, 16), "decoder.proj_in.bias": (1024,),
        "decoder.last_layer.weight": (3, 4, 3, 3, 3), "decoder.last_layer.bias": (3,),
    }  # fmt: skip
    for half in ("encoder", "decoder"):
        shapes |= {f"{half}.cls_token": (1, 1, 1024), f"{half}.pos_embed": (1, 4097, 1024)}
        shapes |= {f"{half}.norm.weight": (1024,), f"{half}.norm.bias": (1024,)}
        shapes |= {f"{half}.blocks.{i}.{name}": shape for i in range(24) for name, shape in block.items()}
    return shapes


def test_the_released_model_has_its_keys_and_shapes() -> None:
    with torch.device("meta"):
        state = ViTVAE(VaeConfig.from_official(official())).state_dict()
    assert {name: tuple(value.shape) for name, value in state.items()} == released_shapes()
    assert len(state) == 496
    assert sum(value.numel() for value in state.values()) == 613_755_239


# --- config -----------------------------------------------------------------------------------------------------------


def test_what_inference_does_not_use_may_be_present_when_it_is_off() -> None:
    unused = {"qk_scale": None, "drop_rate": 0.0, "attn_drop_rate": 0, "drop_path_rate": 0.0}
    absent = {"use_rope": ..., "use_final_proj": ..., "norm_code": ...}
    assert VaeConfig.from_official(official(**unused, **absent)) == VaeConfig.from_official(official())


def test_the_version_of_the_writer_is_no_error() -> None:
    assert VaeConfig.from_official(official() | {"_diffusers_version": "0.29.2"}).depth == 24


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"use_rope": True}, r"ddconfig\.use_rope must be False, not True"),
        ({"use_final_proj": True}, r"ddconfig\.use_final_proj must be False"),
        ({"norm_code": True}, r"ddconfig\.norm_code must be False"),
        ({"double_z": False}, r"ddconfig\.double_z must be True, not False"),
        ({"with_cls_token": ...}, "ddconfig lacks 'with_cls_token'"),
        ({"ln_in_attn": ...}, "ddconfig lacks 'ln_in_attn'"),
        ({"conv_last_layer": False}, r"ddconfig\.conv_last_layer must be True"),
        ({"depth": ...}, "ddconfig lacks 'depth'"),
        ({"deepth": 24}, "unknown field 'deepth'; known fields: .*depth"),
        ({"qk_scale": 0.1}, r"ddconfig\.qk_scale must be 0 or null, not 0\.1"),
        ({"drop_rate": 0.1}, r"ddconfig\.drop_rate must be 0 or null"),
        ({"depth": "24"}, r"ddconfig\.depth must be a whole number above 0, not '24'"),
        ({"depth": True}, r"ddconfig\.depth must be a whole number above 0, not True"),
        ({"mlp_ratio": 0}, r"ddconfig\.mlp_ratio must be a number above 0"),
        ({"qkv_bias": 1}, r"ddconfig\.qkv_bias must be true or false, not 1"),
        ({"video_size": 250}, r"ddconfig\.video_size must be a multiple of patch_size = 8, not 250"),
        ({"video_length": 15}, r"ddconfig\.video_length must be a multiple of patch_length = 4"),
        ({"num_heads": 3}, r"ddconfig\.embed_dim must be a multiple of num_heads = 3, not 1024"),
        (
            {"embed_dim": 1040},
            r"ddconfig\.embed_dim must be a multiple of patch_length x patch_size x patch_size = 256",
        ),
    ],
)
def test_a_wrong_ddconfig_is_one_clear_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        VaeConfig.from_official(official(**changes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "vit_ncthw"}, "model_type must be 'vit', not 'vit_ncthw'"),
        ({"_class_name": "AutoencoderKL"}, "_class_name must be 'ViTVAE'"),
        ({"lossconfig": {}}, "unknown field 'lossconfig'"),
        ({"ddconfig": None}, "ddconfig must be a mapping of sizes, not None"),
    ],
)
def test_another_kind_of_autoencoder_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        VaeConfig.from_official(official() | changes)


def test_a_config_without_sizes_is_refused() -> None:
    with pytest.raises(ConfigError, match="lacks 'ddconfig'"):
        VaeConfig.from_official({"_class_name": "ViTVAE", "model_type": "vit"})


# --- encode and decode ------------------------------------------------------------------------------------------------


def test_shapes_follow_the_patch(vae: ViTVAE) -> None:
    latents = vae.encode(torch.randn(2, 3, 12, 8, 16))
    assert latents.shape == (2, 4, 3, 2, 4)
    assert vae.decode(latents).shape == (2, 3, 12, 8, 16)


def test_one_frame_is_a_still_video_and_decodes_to_one_frame(vae: ViTVAE) -> None:
    frame = torch.randn(1, 3, 1, 8, 8)
    latents = vae.encode(frame)
    assert latents.shape == (1, 4, 1, 2, 2)
    assert torch.equal(latents, vae.encode(frame.repeat(1, 1, 4, 1, 1)))
    assert torch.equal(vae.decode(latents), vae.decoder(latents)[:, :, :1])


def test_the_mean_is_the_first_half_of_the_moments(vae: ViTVAE) -> None:
    video = torch.randn(1, 3, 8, 8, 8)
    assert vae.moments(video).shape == (1, 8, 2, 2, 2)
    assert torch.equal(vae.encode(video), vae.moments(video)[:, :4])


def test_bfloat16_stays_near_float32(vae: ViTVAE) -> None:
    video = torch.randn(1, 3, 8, 8, 8)
    exact = vae.encode(video)
    rough = vae.bfloat16().encode(video)
    assert rough.dtype is torch.bfloat16
    assert (rough - exact).norm() < 0.05 * exact.norm()


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 3, 6, 8, 8), "frames must be 1 or a multiple of 4, not 6"),
        ((1, 3, 8, 10, 8), "height must be a multiple of 4, not 10"),
        ((1, 3, 8, 8, 2), "width must be a multiple of 4, not 2"),
        ((1, 1, 8, 8, 8), r"must have the shape \[batch, 3, frames, height, width\], not \[1, 1, 8, 8, 8\]"),
        ((3, 8, 8, 8), "a video must have the shape"),
    ],
)
def test_a_video_that_is_not_whole_patches_is_refused(vae: ViTVAE, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        vae.encode(torch.zeros(shape))


def test_latents_of_other_channels_are_refused(vae: ViTVAE) -> None:
    with pytest.raises(ValueError, match=r"must have the shape \[batch, 4, frames, height, width\]"):
        vae.decode(torch.zeros(1, 5, 2, 2, 2))


def test_pixels_are_rounded_down_and_clamped() -> None:
    video = torch.tensor([-1.5, -1.0, 0.0, 0.999, 1.0, 2.0])  # 0.999 x 127.5 + 127.5 = 254.87
    assert to_uint8(video).tolist() == [0, 0, 127, 254, 255, 255]


# --- tiles ------------------------------------------------------------------------------------------------------------


def test_a_tile_is_half_a_second() -> None:
    assert Tiling.for_frame_rate(24) == Tiling(frames=12, height=256, width=256)
    assert [Tiling.for_frame_rate(fps).frames for fps in (1, 8, 12, 15, 16, 30)] == [8, 8, 8, 8, 8, 15]
    assert Tiling.for_frame_rate(24, patch_length=8).frames == 16


def test_one_tile_that_covers_all_is_the_same_as_none(vae: ViTVAE) -> None:
    video, tiling = torch.randn(1, 3, 8, 12, 12), Tiling(frames=8, height=16, width=16)  # 12 is the stride of 16
    latents = vae.encode(video)
    assert torch.equal(encode_tiled(vae, video, tiling), latents)
    assert torch.equal(decode_tiled(vae, latents, tiling), vae.decode(latents))


def test_a_constant_stays_constant() -> None:
    video, tiling = torch.full((1, 2, 7, 19, 30), 0.7), Tiling(frames=4, height=8, width=8, temporal_overlap=0.5)
    assert torch.allclose(encode_tiled(Pixels(), video, tiling), video)
    assert torch.allclose(decode_tiled(Pixels(), video, tiling), video)


def test_tiles_start_a_stride_apart_and_the_last_ones_are_small() -> None:
    scripted = Scripted()
    decode_tiled(scripted, torch.zeros(1, 1, 5, 8, 4), Tiling(frames=3, height=8, width=4))
    # frames 0..2, 3..4; rows 0..7, 6..7; columns 0..3, 3
    sizes = [[f, h, w] for f in (3, 2) for h in (8, 2) for w in (4, 1)]
    assert scripted.tiles == sizes


def test_a_blend_goes_over_linearly() -> None:
    video, tiling = torch.zeros(1, 1, 1, 1, 6), Tiling(frames=1, height=2, width=4, spatial_overlap=0.5)
    # A stride of 2, so tiles 1, 2, 3 are 4, 4 and 2 wide. Over two columns the share of the new tile is 0, then 1/2.
    assert decode_tiled(Scripted(), video, tiling).flatten().tolist() == [1, 1, 1, 1.5, 2, 2.5]


def test_encode_blends_with_blended_neighbours_and_decode_with_raw_ones() -> None:
    video, tiling = torch.zeros(1, 1, 1, 4, 4), Tiling(frames=1, height=4, width=4, spatial_overlap=0.5)
    # Tiles [[1, 2], [3, 4]]; the last pixel is halfway into the overlap with the tile above, then with the one on the
    # left. Raw neighbours are 2 and 3: (2 + 4) / 2 = 3, (3 + 3) / 2 = 3. Blended ones have met tile 1 there, halfway
    # too, and are 1.5 and 2: (1.5 + 4) / 2 = 2.75, (2 + 2.75) / 2 = 2.375.
    decoded, encoded = (run(Scripted(), video, tiling)[0, 0, 0] for run in (decode_tiled, encode_tiled))
    assert decoded[3, 3] == 3
    assert encoded[3, 3] == 2.375
    assert torch.equal(decoded[:2], encoded[:2])


def test_a_last_single_latent_frame_decodes_to_one_frame(vae: ViTVAE) -> None:
    latents, tiling = torch.randn(1, 4, 3, 2, 2), Tiling(frames=8, height=16, width=16)
    decoded = decode_tiled(vae, latents, tiling)
    assert decoded.shape[2] == 8 + 1
    assert torch.equal(decoded[:, :, 8:], vae.decode(latents[:, :, 2:]))


def test_a_tile_is_whole_patches(vae: ViTVAE) -> None:
    video, whole = torch.randn(1, 3, 16, 8, 8), Tiling(frames=8, height=16, width=16)
    odd = Tiling(frames=11, height=16, width=19)
    assert torch.equal(encode_tiled(vae, video, odd), encode_tiled(vae, video, whole))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frames": 0}, "frames must be at least 1, not 0"),
        ({"spatial_overlap": 1.0}, "spatial_overlap must be at least 0 and less than 1, not 1.0"),
        ({"temporal_overlap": -0.5}, "temporal_overlap must be at least 0 and less than 1, not -0.5"),
    ],
)
def test_an_impossible_tiling_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Tiling(**({"frames": 8, "height": 16, "width": 16} | changes))


def test_tiles_that_cannot_work_are_refused(vae: ViTVAE) -> None:
    latents = torch.zeros(1, 4, 2, 2, 2)
    with pytest.raises(ValueError, match="is smaller than a patch"):
        decode_tiled(vae, latents, Tiling(frames=3, height=16, width=16))
    with pytest.raises(ValueError, match="do not advance"):
        decode_tiled(vae, latents, Tiling(frames=4, height=4, width=4))
    with pytest.raises(ValueError, match="expected a filled tensor"):
        decode_tiled(vae, latents[:, :, :0], Tiling(frames=4, height=16, width=16))
