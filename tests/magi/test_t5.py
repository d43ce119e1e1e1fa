"""The text encoder, on random weights in the layout of the official checkpoint."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

from motioncache.errors import ConfigError
from motioncache_magi.text.prompt import T5Text


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
    config = T5Config(
        vocab_size=7, d_model=16, d_kv=4, d_ff=32, num_layers=1, num_heads=4, feed_forward_proj="gated-gelu"
    )
    T5EncoderModel(config).save_pretrained(folder)
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


def test_an_offloaded_encoder_is_on_its_device_for_the_call_alone(t5: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encode = T5Text(t5, text_length=4, device="cpu:0", offload=True)
    moves: list[str] = []
    move = T5EncoderModel.to

    def record(encoder: T5EncoderModel, device: str) -> T5EncoderModel:
        moves.append(device)
        return move(encoder, device)

    monkeypatch.setattr(T5EncoderModel, "to", record)
    encode("a fox")
    assert moves == ["cpu:0", "cpu"]


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
    with pytest.raises(ConfigError, match=r"lacks 1 tensors, such as encoder\.final_layer_norm\.weight"):
        T5Text(t5)
