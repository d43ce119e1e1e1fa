"""Trained vectors that MAGI-1 expects in front of a caption: quality, style, and how much of the video is to come."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from enum import Enum
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch

from motioncache.errors import ConfigError


class Token(Enum):
    """A special token; its value is its place in `special_tokens.npz`, (array, row)."""

    caption = ("caption_token", 0)
    logo = ("logo_token", 0)
    trans = ("other_tokens", 0)
    hq = ("other_tokens", 1)
    static_first_frames = ("other_tokens", 2)
    dynamic_first_frames = ("other_tokens", 3)
    borderness = ("other_tokens", 4)
    duration_1 = ("other_tokens", 7)
    duration_2 = ("other_tokens", 8)
    duration_3 = ("other_tokens", 9)
    duration_4 = ("other_tokens", 10)
    duration_5 = ("other_tokens", 11)
    duration_6 = ("other_tokens", 12)
    duration_7 = ("other_tokens", 13)
    duration_8 = ("other_tokens", 14)
    three_d_model = ("other_tokens", 15)
    two_d_anime = ("other_tokens", 16)


DURATIONS = tuple(token for token in Token if token.name.startswith("duration_"))
"""Duration tokens; the index is the number of chunks that follow, 7 for seven or more."""

NEGATIVE = (Token.borderness, Token.trans, Token.logo, Token.caption)
"""Tokens that a negative prompt puts in front of the null caption, first to last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextSwitches:
    """The special tokens that are used; the defaults are those of the official scripts."""

    hq: bool = True
    duration: bool = True
    static: bool = False
    dynamic: bool = False
    borderness: bool = False
    three_d_model: bool = False
    two_d_anime: bool = False
    negative_prompt: bool = False

    def before_caption(self, following: int) -> list[Token]:
        """List the tokens in front of a chunk's caption, first to last.

        Args:
            following: number of chunks of the video after this one; the duration token is the same from 7 upwards.
        """
        choices = [
            (self.duration, DURATIONS[min(following, len(DURATIONS) - 1)]),
            (self.two_d_anime, Token.two_d_anime),
            (self.three_d_model, Token.three_d_model),
            (self.hq, Token.hq),
            (self.borderness, Token.borderness),
            (self.dynamic, Token.dynamic_first_frames),
            (self.static, Token.static_first_frames),
        ]
        return [token for on, token in choices if on]

    def before_null(self) -> list[Token]:
        """List the tokens in front of the null caption, first to last."""
        return list(NEGATIVE) if self.negative_prompt else []

    def beyond_default(self) -> list[str]:
        """List the switches that are on although they are off by default."""
        return [field.name for field in fields(self) if getattr(self, field.name) and not field.default]


@dataclass(frozen=True, slots=True)
class SpecialTokens:
    """The vector `[channels]` of every token."""

    vectors: Mapping[Token, torch.Tensor]

    @classmethod
    def read(cls, path: Path, channels: int) -> "SpecialTokens":
        """Read `special_tokens.npz`, rounded to float16 as in the official code.

        Args:
            channels: the model's `caption_channels`.

        Raises:
            ConfigError: if the file is missing or damaged, lacks an array or a row, or has vectors of another width.
        """
        arrays = _read_arrays(path)
        for name, array in arrays.items():
            rows = 1 + max(token.value[1] for token in Token if token.value[0] == name)
            if array.ndim != 2 or array.shape[0] < rows or array.shape[1] != channels:
                raise ConfigError(
                    f"{path}: {name} has shape {array.shape}, and has to have {rows} or more rows of "
                    f"caption_channels={channels}"
                )
        return cls({token: torch.from_numpy(arrays[token.value[0]][token.value[1]]) for token in Token})

    def stack(self, tokens: Sequence[Token]) -> torch.Tensor:
        """Stack the vectors of one or more tokens, `[tokens, channels]`."""
        return torch.stack([self.vectors[token] for token in tokens])


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read the arrays that hold tokens, in float16."""
    names = sorted({token.value[0] for token in Token})
    if not path.is_file():
        raise ConfigError(f"{path} is missing: it has to hold the special tokens {', '.join(names)}")
    try:
        with np.load(path) as archive, np.errstate(over="ignore"):
            if missing := [name for name in names if name not in archive]:
                raise ConfigError(f"{path} lacks {', '.join(missing)}")
            arrays = {name: archive[name].astype(np.float16) for name in names}
    except ConfigError:
        raise
    except (OSError, EOFError, ValueError, TypeError, BadZipFile) as error:
        raise ConfigError(f"{path} cannot be read as an .npz file: {error}") from None
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ConfigError(f"{path}: {name} has values that are NaN or infinite in float16; download it again")
    return arrays
