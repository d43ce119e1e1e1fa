"""The token grid of a window: latent frames, rows and columns, cut into chunks along time."""

from dataclasses import dataclass

from motioncache.errors import MotionCacheError


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenGrid:
    """Tokens of one window in flat order (frame, row, column).

    Args:
        frames: latent frames of the window; a multiple of `chunk_frames`.
        height, width: tokens per column and per row of a latent frame.
        chunk_frames: latent frames that are denoised together.
    """

    frames: int
    height: int
    width: int
    chunk_frames: int

    def __post_init__(self) -> None:
        if min(self.frames, self.height, self.width, self.chunk_frames) < 1:
            raise MotionCacheError(f"a token grid needs positive sizes, not {self}")
        if self.frames % self.chunk_frames:
            raise MotionCacheError(
                f"{self.frames} latent frames do not divide into chunks of {self.chunk_frames} latent frames"
            )

    @property
    def chunks(self) -> int:
        return self.frames // self.chunk_frames

    @property
    def tokens_per_frame(self) -> int:
        return self.height * self.width

    @property
    def tokens_per_chunk(self) -> int:
        return self.chunk_frames * self.tokens_per_frame

    @property
    def tokens(self) -> int:
        return self.frames * self.tokens_per_frame

    def chunk_of_frames(self, chunk: int) -> slice:
        """The latent frames of a chunk."""
        return slice(chunk * self.chunk_frames, (chunk + 1) * self.chunk_frames)

    def chunk_of_tokens(self, chunk: int) -> slice:
        """The tokens of a chunk."""
        return slice(chunk * self.tokens_per_chunk, (chunk + 1) * self.tokens_per_chunk)
