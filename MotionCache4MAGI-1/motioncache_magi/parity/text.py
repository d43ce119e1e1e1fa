"""Golden data of the text side: cleaned prompts, and the special tokens of every chunk."""

from pathlib import Path
from typing import Any

import torch

from motioncache.errors import MotionCacheError
from motioncache_eval.parity import EXACT, FileReport, read_json
from motioncache_magi.parity.golden import Golden
from motioncache_magi.text.caption import clean_caption
from motioncache_magi.text.chunks import ChunkText, chunk_text
from motioncache_magi.text.special_tokens import SpecialTokens, TextSwitches, Token

SWITCHES = {
    "PAD_HQ": "hq",
    "PAD_DURATION": "duration",
    "PAD_STATIC": "static",
    "PAD_DYNAMIC": "dynamic",
    "PAD_BORDERNESS": "borderness",
    "PAD_THREE_D_MODEL": "three_d_model",
    "PAD_TWO_D_ANIME": "two_d_anime",
    "NEG_PROMPT": "negative_prompt",
}
"""Environment variables of the official code, and our names for them."""

_OFF = dict.fromkeys(SWITCHES.values(), False)
_TRUE = {"1", "true", "yes", "y", "on", "enabled"}


def check_captions(path: Path) -> FileReport:
    """Prompts, cleaned: the file is a list of (prompt, cleaned prompt)."""
    report = FileReport(path.stem)
    pairs: Any = read_json(path)
    for prompt, cleaned in pairs:
        report.check(repr(prompt), clean_caption(prompt), cleaned)
    return report


def check_text(golden: Golden) -> FileReport:
    """Caption and null caption of every chunk.

    The file holds the first and the last words of what goes in and of what comes out: `none.emb_head48` are 48 words
    of the case `none`. Words that are not in the file are NaN here, and left out of the comparison.
    """
    report, tensors = FileReport(golden.name), golden.tensors
    mask = tensors["mask"]  # [words]
    caption, null = (_complete(tensors, name, len(mask)) for name in ("caption", "null"))
    tokens = SpecialTokens({_token(name): vector for name, vector in tensors.items() if name.startswith("tok.")})
    for case, about in golden.about["cases"].items():
        text = chunk_text(
            caption=caption[None],
            mask=mask[None],
            null_caption=null,
            chunks=about["infer_chunk_num"],
            prefix_chunks=about["clean_chunk_num"],
            special_tokens=tokens,
            switches=_switches(about["env"]),
        )
        for name, expected in tensors.items():
            if name.startswith(f"{case}."):
                _compare(report, name, _part(text, name.removeprefix(f"{case}.")), expected)
    return report


def _complete(tensors: dict[str, torch.Tensor], stem: str, words: int) -> torch.Tensor:
    """`[words, channels]` from the first words (`stem_head*`) and the last ones (`stem_tail*`); NaN between them."""
    parts = {name: tensor for name, tensor in tensors.items() if name.startswith((f"{stem}_head", f"{stem}_tail"))}
    if not parts:
        raise MotionCacheError(f"a golden file of text lacks {stem}_head*")
    whole = torch.full((words, next(iter(parts.values())).shape[-1]), torch.nan)
    for name, part in parts.items():
        whole[_words(name)] = part
    return whole


def _words(name: str) -> slice:
    """The words that `..._head48` or `..._tail2` stands for."""
    for end in ("_head", "_tail"):
        _, found, count = name.rpartition(end)
        if found:
            return slice(int(count)) if end == "_head" else slice(-int(count), None)
    raise MotionCacheError(f"{name} is neither the first nor the last words of something")


def _token(name: str) -> Token:
    """`tok.HQ_TOKEN` and `tok.DURATION_TOKEN_3` are `hq` and `duration_3`."""
    return Token[name.removeprefix("tok.").replace("_TOKEN", "").lower()]


def _switches(environment: dict[str, str]) -> TextSwitches:
    return TextSwitches(**_OFF | {SWITCHES[name]: value.lower() in _TRUE for name, value in environment.items()})


def _part(text: ChunkText, name: str) -> torch.Tensor:
    """What a golden tensor is named after: `emb_head48`, `null_mask_sum`, and so on."""
    whole = {
        "emb": text.caption,
        "mask": text.caption_mask,
        "null": text.null,
        "null_mask": text.null_mask,
    }[name.rpartition("_")[0]]
    return whole.sum(dim=1) if name.endswith("_sum") else whole[:, _words(name)]


def _compare(report: FileReport, name: str, ours: torch.Tensor, golden: torch.Tensor) -> None:
    """A chunk of which no word is known is a mismatch: NaN agrees with nothing."""
    if ours.shape == golden.shape and ours.is_floating_point():
        known = ~ours.isnan() | ours.isnan().flatten(1).all(dim=1)[:, None, None]  # [chunks, words, channels]
        ours, golden = ours[known], golden[known]
    report.compare(name, ours, golden, EXACT)
