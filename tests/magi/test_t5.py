"""The text encoder, on random weights in the layout of the official checkpoint."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel, T5ForConditionalGeneration

from motioncache.errors import ConfigError, MotionCacheError
from motioncache_magi.text.prompt import T5Text

SIZES: dict[str, Any] = {
    "vocab_size": 7, "d_model": 16, "d_kv": 4, "d_ff": 32, "num_heads": 4, "feed_forward_proj": "gated-gelu",
}  # fmt: skip


def save_tokenizer(folder: Path) -> None:
    vocabulary = {word: i for i, word in enumerate(["<pad>", "</s>", "<unk>", "a", "red", "fox", "runs"])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.post_processor = processors.TemplateProcessing(  # pyright: ignore[reportAttributeAccessIssue]
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
    fast.save_pretrained(folder)


@pytest.fixture
def t5(tmp_path: Path) -> Path:
    """A tiny encoder with random weights, laid out like the official checkpoint."""
    folder = tmp_path / "t5" / "t5-v1_1-xxl"
    torch.manual_seed(0)
    T5EncoderModel(T5Config(**SIZES, num_layers=1)).save_pretrained(folder)
    save_tokenizer(folder)
    return folder


def test_a_prompt_is_cleaned_encoded_and_padded(t5: Path) -> None:
    encode = T5Text(t5, text_length=8)
    caption, mask = encode("A Red   FOX runs!!! (https://fox.com/red)")
    plain, _ = encode("a red fox runs!!!")
    assert caption.shape == (1, 8, 16)
    assert caption.dtype is torch.float32
    assert mask.tolist() == [[1, 1, 1, 1, 1, 0, 0, 0]]
    assert torch.equal(caption, plain)
    assert not caption.requires_grad


def test_padding_does_not_change_the_words(t5: Path) -> None:
    short, _ = T5Text(t5, text_length=4)("a red fox")
    long, _ = T5Text(t5, text_length=9)("a red fox")
    torch.testing.assert_close(short, long[:, :4])


def test_a_long_prompt_is_cut_and_keeps_its_end(t5: Path) -> None:
    _, mask = T5Text(t5, text_length=3)("a red fox runs")
    assert mask.tolist() == [[1, 1, 1]]


def test_an_empty_prompt_is_one_word(t5: Path) -> None:
    assert T5Text(t5, text_length=4)("")[1].tolist() == [[1, 0, 0, 0]]


def test_the_parent_folder_does_as_well(t5: Path) -> None:
    assert torch.equal(T5Text(t5.parent, text_length=4)("a fox")[0], T5Text(t5, text_length=4)("a fox")[0])


def test_the_encoder_is_on_its_device_for_a_prompt_alone(t5: Path) -> None:
    encode = T5Text(t5, text_length=4, device="meta")
    masters = {name: parameter.data_ptr() for name, parameter in encode._encoder.named_parameters()}
    devices: set[str] = set()

    def forward(**inputs: torch.Tensor) -> SimpleNamespace:
        devices.update(x.device.type for x in (*encode._encoder.parameters(), *inputs.values()))
        return SimpleNamespace(last_hidden_state=torch.zeros(1, 4, 16))

    encode._encoder.forward = forward
    encode("a fox")
    assert devices == {"meta"}
    assert {name: p.data_ptr() for name, p in encode._encoder.named_parameters()} == masters
    assert {p.device.type for p in encode._encoder.parameters()} == {"cpu"}


def test_the_encoder_is_held_in_the_dtype_that_a_user_says(t5: Path) -> None:
    expected, _ = T5Text(t5, text_length=4)("a fox")
    half = T5Text(t5, text_length=4, dtype=torch.bfloat16)
    assert {p.dtype for p in half._encoder.parameters()} == {torch.bfloat16}
    found, _ = half("a fox")
    assert found.dtype == torch.float32
    assert 0 < (found - expected).norm() < 0.05 * expected.norm()


def test_a_folder_without_an_encoder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no T5 encoder in"):
        T5Text(tmp_path / "nowhere")


def test_a_missing_tokenizer_is_an_error(t5: Path) -> None:
    (t5 / "tokenizer.json").unlink()
    with pytest.raises(ConfigError, match=r"has no tokenizer: neither spiece\.model nor tokenizer\.json"):
        T5Text(t5)


def test_missing_weights_are_an_error(t5: Path) -> None:
    (t5 / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"the T5 encoder in .* cannot be loaded: [^\n]+$"):
        T5Text(t5)


def test_a_missing_tensor_is_an_error(t5: Path) -> None:
    tensors = load_file(t5 / "model.safetensors")
    del tensors["encoder.final_layer_norm.weight"]
    save_file(tensors, t5 / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=r"1 missing tensors, encoder\.final_layer_norm\.weight among them"):
        T5Text(t5)


def edit(folder: Path, **changes: torch.Tensor) -> None:
    tensors = load_file(folder / "model.safetensors")
    save_file({**tensors, **changes}, folder / "model.safetensors", metadata={"format": "pt"})


def test_a_tensor_too_many_is_an_error(t5: Path) -> None:
    edit(t5, more=torch.zeros(1))
    with pytest.raises(ConfigError, match=r"has 1 unexpected tensors, more among them"):
        T5Text(t5)


def test_surplus_layers_are_not_dropped(t5: Path) -> None:
    T5EncoderModel(T5Config(**SIZES, num_layers=2)).save_pretrained(t5 / "larger")
    shutil.copy(t5 / "larger" / "model.safetensors", t5)
    with pytest.raises(ConfigError, match=r"unexpected tensors, encoder\.block\.1\."):
        T5Text(t5)


@pytest.mark.parametrize("tied", [True, False])
def test_a_whole_t5_serves_as_well(t5: Path, tied: bool) -> None:
    T5ForConditionalGeneration(T5Config(**SIZES, num_layers=1, tie_word_embeddings=tied)).save_pretrained(t5)
    assert T5Text(t5, text_length=4)("a fox")[0].shape == (1, 4, 16)


def test_both_names_of_the_embedding_are_known(t5: Path) -> None:
    before = T5Text(t5, text_length=4)("a fox")[0]
    edit(t5, **{"encoder.embed_tokens.weight": load_file(t5 / "model.safetensors")["shared.weight"].clone()})
    assert torch.equal(T5Text(t5, text_length=4)("a fox")[0], before)


def test_the_shards_of_the_official_folder_are_checked(t5: Path) -> None:
    """The official weights are pickled, in two shards with an index."""
    before = T5Text(t5, text_length=4)("a fox")[0]
    tensors = load_file(t5 / "model.safetensors")
    (t5 / "model.safetensors").unlink()
    names = sorted(tensors)
    shards = {f"pytorch_model-0000{i + 1}-of-00002.bin": names[i::2] for i in range(2)}
    weight_map = {name: shard for shard, held in shards.items() for name in held}
    (t5 / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    for shard, held in shards.items():
        torch.save({name: tensors[name] for name in held}, t5 / shard)
    assert torch.equal(T5Text(t5, text_length=4)("a fox")[0], before)
    shard, name = weight_map[names[0]], names[0]
    torch.save({held: tensors[held].to(torch.int8) for held in shards[shard]}, t5 / shard)
    with pytest.raises(MotionCacheError, match=rf"{shard}: {name} is torch\.int8, not a float of 16 or 32 bits"):
        T5Text(t5)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_nan_or_infinite_are_an_error(t5: Path, value: float) -> None:
    name = "encoder.final_layer_norm.weight"
    edit(t5, **{name: torch.full((16,), value)})
    with pytest.raises(MotionCacheError, match=f"{name} has values that are NaN or infinite"):
        T5Text(t5)


@pytest.mark.parametrize("value", [0, -1, True, "1"])
def test_a_size_that_no_encoder_has_is_an_error(t5: Path, value: object) -> None:
    config = json.loads((t5 / "config.json").read_text())
    (t5 / "config.json").write_text(json.dumps({**config, "num_layers": value}))
    with pytest.raises(ConfigError, match=rf"config\.json: num_layers must be a whole number above 0, not {value!r}"):
        T5Text(t5)


@pytest.mark.parametrize("content", ["[" * 100_000, "[]", "null", "{"], ids=["deep", "list", "null", "cut"])
def test_a_configuration_that_holds_no_mapping_is_an_error(t5: Path, content: str) -> None:
    (t5 / "config.json").write_text(content)
    with pytest.raises(ConfigError, match=r"^[^\n]+/config\.json (must hold a mapping|is damaged)[^\n]+$"):
        T5Text(t5)
