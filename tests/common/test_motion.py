import pytest
import torch

from motioncache.motion import Normalisation, motion_score, motion_weight, temporal_vote


def chunk(*frames: list[float]) -> torch.Tensor:
    """One channel, one video: `[1, frames, tokens, 1]`."""
    return torch.tensor(frames)[None, :, :, None]


def test_the_score_is_the_relative_change_since_the_frame_before() -> None:
    score = motion_score(chunk([1.0, 2.0], [1.0, 3.0]), torch.tensor([[[2.0], [2.0]]]), missing=1.0)
    assert score.tolist() == [pytest.approx([0.5, 0.0]), pytest.approx([0.0, 0.5])]


def test_a_first_frame_without_predecessor_copies_the_second_or_takes_the_given_score() -> None:
    frames = chunk([1.0, 2.0], [1.0, 3.0])
    assert motion_score(frames, None, missing=torch.nan)[0].tolist() == pytest.approx([0.0, 0.5])
    assert motion_score(frames, None, missing=1.0)[0].tolist() == [1.0, 1.0]


def test_the_mean_runs_over_batch_and_channels() -> None:
    hidden = torch.tensor([[[[1.0, 3.0]], [[2.0, 5.0]]]])  # [batch 1, frames 2, tokens 1, channels 2]
    assert motion_score(hidden, None, missing=1.0)[1].item() == pytest.approx(((1 + 2) / 2) / ((1 + 3) / 2))


def test_half_precision_is_widened_before_the_difference() -> None:
    hidden = chunk([256.0], [257.0]).to(torch.bfloat16)
    assert motion_score(hidden, None, missing=1.0).dtype is torch.float32


@pytest.mark.parametrize(
    ("normalisation", "expected"),
    [
        (Normalisation.mean, [0.5, 1.5]),  # mean 2
        (Normalisation.max, [1 / 3, 1.0]),  # largest 3
        (Normalisation.max_rescale, [0.6, 1.0]),  # smallest to the floor, largest to 1
    ],
)
def test_weights_are_normalised_within_a_frame(normalisation: Normalisation, expected: list[float]) -> None:
    weight = motion_weight(torch.tensor([[1.0, 3.0]]), normalisation, floor=0.6)
    assert weight[0].tolist() == pytest.approx(expected)


def test_only_max_rescale_keeps_still_tokens_above_zero() -> None:
    still = torch.tensor([[0.0, 1.0]])
    assert motion_weight(still, Normalisation.max_rescale, 0.6)[0, 0] == pytest.approx(0.6)
    assert motion_weight(still, Normalisation.mean, 0.6)[0, 0] == 0


def test_a_vote_is_won_by_more_than_the_share() -> None:
    due = torch.tensor([[True, True], [True, False]]).flatten()  # position 0: 2 of 2 frames, position 1: 1 of 2
    assert temporal_vote(due, frames=2, share=0.5).tolist() == [True, False, True, False]
    assert temporal_vote(due, frames=2, share=0.4).tolist() == [True] * 4
