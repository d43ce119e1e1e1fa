"""Attention for training, and captions of several lengths in one batch."""

import torch

PADDED_TEXT_LENGTH = 20
"""Tokens that shorter captions are padded to, so that every batch has one shape."""


def attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """Attention by plain products, `[batch, tokens, heads, dim]`: on a CPU its backward is much faster than SDPA's."""
    query, key, value = (x.transpose(1, 2) for x in (query, key, value))
    with torch.autocast(query.device.type, enabled=False):  # autocast would widen the scores, the largest tensors
        query = (query * query.shape[-1] ** -0.5).to(value.dtype)
        scores = query @ key.to(value.dtype).transpose(-1, -2)
        if bias is not None:
            scores = scores + bias.to(scores.dtype)
        return (scores.softmax(-1) @ value).transpose(1, 2)


def pad_captions(captions: list[torch.Tensor], padded_length: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Stack captions `[text_length, dim]` of several lengths.

    Args:
        padded_length: int `[batch]`, the text length to which the pipeline would pad each prompt.

    Returns:
        Text `[batch, text_length + 1, dim]`, whose last row is the zero row that stands for all the padding, and the
        bias of its keys `[batch, text_length + 1]`: 0 for the caption, -inf behind it, log(count) for the zero row.
    """
    lengths = torch.tensor([len(caption) for caption in captions])
    text_length = max(PADDED_TEXT_LENGTH, int(lengths.max()))
    text = torch.nn.utils.rnn.pad_sequence(captions, batch_first=True)
    text = torch.nn.functional.pad(text, (0, 0, 0, text_length + 1 - text.shape[1]))
    bias = torch.zeros(len(captions), text_length + 1)
    bias[:, :text_length].masked_fill_(torch.arange(text_length) >= lengths[:, None], -torch.inf)
    bias[:, text_length] = (padded_length - lengths).log()
    return text, bias
