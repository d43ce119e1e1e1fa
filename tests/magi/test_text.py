"""From prompt to the text of every chunk. Golden data of the official code is not part of the repository."""

import json
import os
import shutil
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from motioncache.errors import ConfigError, MotionCacheError
from motioncache_magi.parity.golden import Golden
from motioncache_magi.parity.text import SWITCHES, check_captions, check_text
from motioncache_magi.text.caption import clean_caption
from motioncache_magi.text.chunks import ChunkText, chunk_text
from motioncache_magi.text.special_tokens import DURATIONS, SpecialTokens, TextSwitches, Token

FIXTURES = Path(os.environ.get("MOTIONCACHE_FIXTURES", Path(__file__).parents[3] / "shared" / "fixtures")) / "magi"

needs_fixtures = pytest.mark.skipif(
    not FIXTURES.is_dir(), reason="no golden data: set MOTIONCACHE_FIXTURES to the folder that holds magi/"
)

OFF = TextSwitches(hq=False, duration=False)
WORDS, CHANNELS = 60, 4
NULL = torch.arange(WORDS * CHANNELS, dtype=torch.float32).view(WORDS, CHANNELS)


# Golden data


@needs_fixtures
def test_cleaned_captions_agree() -> None:
    report = check_captions(FIXTURES / "caption_clean.json")
    assert report.passed, str(report)
    assert len(report.comparisons) == len(json.loads((FIXTURES / "caption_clean.json").read_text()))


@needs_fixtures
def test_text_of_every_chunk_agrees() -> None:
    golden = Golden(FIXTURES / "text_tokens.safetensors")
    report = check_text(golden)
    assert report.passed, str(report)
    assert {comparison.name for comparison in report.comparisons} == {
        name for name in golden.tensors if "." in name and not name.startswith("tok.")
    }


@needs_fixtures
@pytest.mark.parametrize(
    "name", ["all.emb_head48", "hq_duration_prefix.emb_tail2", "hq_duration.mask_sum", "all.null_head8"]
)
def test_a_changed_golden_value_is_found(tmp_path: Path, name: str) -> None:
    tensors = load_file(FIXTURES / "text_tokens.safetensors")
    tensors[name][-1] += 1
    save_file(tensors, tmp_path / "text_tokens.safetensors")
    shutil.copy(FIXTURES / "manifest.json", tmp_path)
    report = check_text(Golden(tmp_path / "text_tokens.safetensors"))
    assert [comparison.name for comparison in report.comparisons if not comparison.passed] == [name]


def test_a_wrongly_cleaned_caption_is_found(tmp_path: Path) -> None:
    path = tmp_path / "caption_clean_two.json"
    path.write_text(json.dumps([["A  cat", "a cat"], ["A dog", "A dog"]]))
    assert [comparison.passed for comparison in check_captions(path).comparisons] == [True, False]


# Cleaning


@pytest.mark.parametrize(
    ("prompt", "cleaned"),
    [
        ("A Red%20Fox+runs", "a red fox runs"),  # address encoding
        ("a cat, see http://www.cats.org/tabby/ for more", "a cat, see for more"),
        ("a cat from shop.cats.net/new today", "a cat from today"),
        ("a cat www:cats.net", "a cat"),
        ("a <person> with <i>two</i> cats<br>", "a person with two cats"),
        ("salt &amp; pepper", "salt pepper"),
        ("salt &amp;amp; pepper", "salt ; pepper"),  # escaped twice: the semicolon stays, as in the official code
        ("a cat by @some_one at home", "a cat by at home"),
        ("a \u732b cat \u3231 \u4dc0", "a cat"),  # CJK ideograph, enclosed letter, hexagram
        ("noon \u2013 night \u2014 noon", "noon - night - noon"),
        ("the \u00abold\u00bb \u2018tom\u2019 cat", "the \"old\" 'tom' cat"),
        ("so ''''big'''' a cat", 'so "big" a cat'),
        ("a cat at 10.0.0.255 sleeps", "a cat at sleeps"),
        (r"a cat\nsleeps", "a cat sleeps"),
        ("cat #7 and cat #1234 and cat #123456", "cat and cat 1234 and cat"),  # four digits may be a year
        ("in 2024 the cat 123456 slept", "in 2024 the cat slept"),
        ("a cat dsc_001.jpeg asleep", "a cat asleep"),
        ("a cat... asleep", "a cat asleep"),
        ("a [very] {big} *cat* | dog \\ fox \u00a9", "a very big cat dog fox"),
        ("snow_white and red-hot", "snow_white and red-hot"),  # two are words of their own
        ("a_b_c_d_e", "a b c d e"),
        ("id jc6640 and jc6640vc and 6640vc231 end", "id and and end"),
        ("id ab1cd2ef end", "id end"),
        ("3d cat, 4k", "3d cat, 4k"),
        ("worldwide free shipping of cats", "of cats"),
        ("free download free cat", "cat"),
        ("click on image of a cat", "of a cat"),
        ("cat png images", "cat"),
        ("cat on page 3", "cat on"),
        ("a canvas 30x40 or 2.5\u00d73 or 10\u044512 big", "a canvas or or big"),
        ("cat : asleep", "cat: asleep"),
        ("cat,dog.fox", "cat, dog. fox"),
        ("1.5 cats", "1.5 cats"),
        ("'a cat'", "a cat"),
        ("-a cat:", "a cat"),
        (".cat", ""),
        ("the \ufb01rst caf\u00e9", "the first caf\u00e9"),
        ("   ", ""),
    ],
)
def test_cleaning(prompt: str, cleaned: str) -> None:
    assert clean_caption(prompt) == cleaned


# Special tokens


@pytest.fixture
def tokens() -> SpecialTokens:
    """Token number i is -1 - i in every channel: no caption of these tests is negative."""
    return SpecialTokens({token: torch.full((CHANNELS,), -1.0 - i) for i, token in enumerate(Token)})


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    rows = np.random.default_rng(0).standard_normal((102, CHANNELS))
    return {"caption_token": rows[:1], "logo_token": rows[1:2], "other_tokens": rows[2:]}


def read(folder: Path, arrays: dict[str, np.ndarray], channels: int = CHANNELS) -> SpecialTokens:
    np.savez(folder / "special_tokens.npz", **arrays)  # pyright: ignore[reportArgumentType]
    return SpecialTokens.read(folder / "special_tokens.npz", channels)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e6])
def test_special_tokens_that_are_not_finite_in_float16_are_refused(
    tmp_path: Path, arrays: dict[str, np.ndarray], value: float
) -> None:
    arrays["logo_token"] = arrays["logo_token"].copy()
    arrays["logo_token"][0, 3] = value
    with pytest.raises(ConfigError, match="logo_token has values that are NaN or infinite in float16"):
        read(tmp_path, arrays)


def test_special_tokens_are_read_in_float16(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    tokens = read(tmp_path, arrays)
    expected = torch.from_numpy(arrays["other_tokens"][[1, 14, 16]]).half()
    assert torch.equal(tokens.stack([Token.hq, Token.duration_8, Token.two_d_anime]), expected)
    assert torch.equal(tokens.vectors[Token.logo], torch.from_numpy(arrays["logo_token"][0]).half())


def test_a_missing_file_of_special_tokens_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"special_tokens\.npz is missing"):
        SpecialTokens.read(tmp_path / "special_tokens.npz", CHANNELS)


@pytest.mark.parametrize("content", [b"", b"no arrays", b"PK\x03\x04 cut off"])
def test_a_damaged_file_of_special_tokens_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "special_tokens.npz").write_bytes(content)
    with pytest.raises(ConfigError, match="cannot be read"):
        SpecialTokens.read(tmp_path / "special_tokens.npz", CHANNELS)


def test_a_missing_array_is_an_error(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    del arrays["logo_token"]
    with pytest.raises(ConfigError, match="lacks logo_token"):
        read(tmp_path, arrays)


def test_special_tokens_of_another_width_are_an_error(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    with pytest.raises(ConfigError, match=r"shape \(1, 4\).* caption_channels=4096"):
        read(tmp_path, arrays, channels=4096)


def test_too_few_special_tokens_are_an_error(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    arrays["other_tokens"] = arrays["other_tokens"][:16]  # two_d_anime is row 16, the 17th
    with pytest.raises(ConfigError, match=r"other_tokens has shape \(16, 4\), and has to have 17 or more rows"):
        read(tmp_path, arrays)


def test_the_defaults_are_those_of_the_official_scripts() -> None:
    assert {field.name for field in fields(TextSwitches) if field.default} == {"hq", "duration"}
    assert set(SWITCHES.values()) == {field.name for field in fields(TextSwitches)}


def test_duration_says_how_many_chunks_follow_and_saturates() -> None:
    first = [TextSwitches().before_caption(following)[0] for following in reversed(range(10))]
    assert [token.name[-1] for token in first] == list("8887654321")
    assert [token.value[1] for token in DURATIONS] == list(range(7, 15))


# Text of every chunk


def build(
    *,
    words: int = 5,
    chunks: int = 3,
    prefix_chunks: int = 0,
    special_tokens: SpecialTokens | None = None,
    switches: TextSwitches = OFF,
) -> ChunkText:
    """A caption of `words` words; word i is 1000 + i in every channel."""
    return chunk_text(
        caption=(1000 + torch.arange(WORDS, dtype=torch.float32))[None, :, None].expand(1, WORDS, CHANNELS),
        mask=(torch.arange(WORDS) < words)[None].long(),
        null_caption=NULL,
        chunks=chunks,
        prefix_chunks=prefix_chunks,
        special_tokens=special_tokens,
        switches=switches,
    )


def names(row: torch.Tensor) -> list[str]:
    """Names of the special tokens at the start of a `[words, channels]` row of these tests."""
    return [list(Token)[int(-1 - value)].name for value in row[:, 0].tolist() if value < 0]


def test_duration_counts_down_over_the_chunks_that_are_denoised(tokens: SpecialTokens) -> None:
    text = build(chunks=4, prefix_chunks=1, special_tokens=tokens, switches=TextSwitches())
    assert [names(row) for row in text.caption] == [
        [],
        ["duration_3", "hq"],
        ["duration_2", "hq"],
        ["duration_1", "hq"],
    ]


def test_special_tokens_push_the_last_words_out(tokens: SpecialTokens) -> None:
    text = build(special_tokens=tokens, switches=TextSwitches())
    assert text.caption.shape == (3, WORDS, CHANNELS)
    assert text.caption[0, 2:, 0].tolist() == [1000 + i for i in range(WORDS - 2)]
    assert text.caption_mask.sum(dim=1).tolist() == [7, 7, 7]
    assert build(words=WORDS, special_tokens=tokens, switches=TextSwitches()).caption_mask.all()


@pytest.mark.parametrize("switch", [field.name for field in fields(TextSwitches) if field.name != "negative_prompt"])
def test_every_switch_puts_its_token_in_front(tokens: SpecialTokens, switch: str) -> None:
    switches = TextSwitches(**{"hq": False, "duration": False, switch: True})
    front = names(build(chunks=1, special_tokens=tokens, switches=switches).caption[0])
    assert len(front) == 1
    assert front[0].startswith(switch)


def test_the_negative_prompt_goes_in_front_of_the_null_caption_alone(tokens: SpecialTokens) -> None:
    switches = TextSwitches(hq=False, duration=False, negative_prompt=True)
    text = build(special_tokens=tokens, switches=switches)
    assert names(text.null[0]) == ["borderness", "trans", "logo", "caption"]
    assert torch.equal(text.null[2, 4:], NULL[:-4])
    assert text.null_mask.sum(dim=1).tolist() == [50, 50, 50]
    assert names(text.caption[0]) == []


def test_prefix_chunks_have_no_caption() -> None:
    text = build(chunks=3, prefix_chunks=2)
    assert torch.equal(text.caption[:2], NULL.expand(2, -1, -1))
    assert text.caption_mask.sum(dim=1).tolist() == [0, 0, 5]
    assert text.null_mask.sum(dim=1).tolist() == [50, 50, 50]


def test_an_empty_caption_is_the_null_caption(tokens: SpecialTokens) -> None:
    text = build(words=0, special_tokens=tokens, switches=TextSwitches())
    assert torch.equal(text.caption, NULL.expand(3, -1, -1))
    assert torch.equal(text.caption, text.null)
    assert torch.equal(text.caption_mask, text.null_mask)
    assert text.caption_mask[0].tolist() == [True] * 50 + [False] * 10


def test_without_special_tokens_the_caption_is_as_it_was() -> None:
    text = build(special_tokens=None, switches=TextSwitches())
    assert text.caption[:, 0, 0].tolist() == [1000] * 3
    assert text.caption_mask.sum(dim=1).tolist() == [5, 5, 5]


def test_a_switch_that_needs_special_tokens_is_an_error_without_them() -> None:
    with pytest.raises(ConfigError, match=r"static, negative_prompt: on, but no special tokens"):
        build(switches=TextSwitches(static=True, negative_prompt=True))


def test_a_prefix_that_is_the_whole_video_is_an_error() -> None:
    with pytest.raises(MotionCacheError, match="prefix of 3 chunks leaves nothing to denoise of 3"):
        build(chunks=3, prefix_chunks=3)


def test_a_caption_of_another_length_than_the_null_caption_is_an_error() -> None:
    with pytest.raises(MotionCacheError, match=r"\(1, 7, 4\).*\(60, 4\)"):
        chunk_text(
            caption=torch.zeros(1, 7, CHANNELS),
            mask=torch.ones(1, 7),
            null_caption=NULL,
            chunks=1,
            prefix_chunks=0,
            special_tokens=None,
            switches=OFF,
        )
