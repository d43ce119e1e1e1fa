"""Write the table of traffic into docs/gpus.md: `python docs/write_gpus.py`.

Tests compare the sums of `Pass.ulysses`, with small models of both kinds, with what their processes have counted.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from motioncache_magi.loading.variants import VARIANTS
from motioncache_skyreels.memory import RELEASED

PAGE = Path(__file__).resolve().parent / "gpus.md"
BEGIN, END = "<!-- traffic: begin -->", "<!-- traffic: end -->"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """What runs through a transformer in one iteration.

    Attributes:
        rows: tokens of all chunks and branches that a process computes together with those that have other heads.
        width: channels of a token.
        exchanged: channels of queries, keys, values and results of attention.
        velocities: numbers that all branches predict together.
    """

    layers: int
    rows: int
    width: int
    exchanged: int
    velocities: int
    bytes: int = 2

    def ulysses(self, processes: int) -> tuple[int, int]:
        """Collectives, and bytes that leave each process: two all-to-all a layer, and one all-gather."""
        share = ceil(self.rows / processes) * self.bytes
        all_to_all = self.layers * share * self.exchanged * (processes - 1) // processes
        return 2 * self.layers + 1, all_to_all + share * self.width * (processes - 1)

    def cfg(self, processes: int, bytes_of_velocity: int) -> tuple[int, int]:
        """Collectives, and bytes that leave each process: one all-reduce."""
        return 1, 2 * self.velocities * bytes_of_velocity * (processes - 1) // processes


def passes() -> Iterator[tuple[str, Pass, tuple[int, ...], int, int]]:
    """Released models at full size: a name, an iteration with every chunk of a window, processes that divide the heads
    (and the branches, 0 where there is one), and bytes of a number of a velocity."""
    for name, (sizes, (height, width)) in RELEASED.items():
        channels, tokens = 128 * sizes["num_attention_heads"], 25 * (height // 16) * (width // 16)
        yield (
            f"SkyReels-V2 {name}, 97 frames",
            Pass(
                layers=sizes["num_layers"], rows=2 * tokens, width=channels, exchanged=4 * channels,
                velocities=2 * 64 * tokens,
            ),
            (2, 4), 2, 2,
        )  # fmt: skip
    for name, config in VARIANTS.items():
        model, runtime = config.model, config.runtime
        tokens = runtime.chunk_width * (runtime.video_size_h // 16) * (runtime.video_size_w // 16)
        branches = 1 if config.engine.distill else 3
        heads = 2 * model.num_attention_heads + 2 * model.num_query_groups
        yield (
            f"MAGI-1 {name}",
            Pass(
                layers=model.num_layers, rows=4 * branches * tokens, width=model.hidden_size,
                exchanged=heads * model.kv_channels, velocities=4 * branches * 4 * model.latent_channels * tokens,
            ),
            (2, 4), 0 if config.engine.distill else 3, 4,
        )  # fmt: skip


def table() -> str:
    """Collectives and gigabytes of one iteration."""
    lines = [
        "| bfloat16 | collectives of `ulysses` | GB sent, 2 GPUs | GB sent, 4 GPUs | all-reduce of `cfg` | GB sent |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for name, one, processes, branches, size in passes():
        sent = " | ".join(f"{one.ulysses(number)[1] / 1e9:.2f}" for number in processes)
        cfg = f"{branches} GPUs | {one.cfg(branches, size)[1] / 1e9:.3f}" if branches else "- | -"
        lines.append(f"| {name} | {one.ulysses(2)[0]} | {sent} | {cfg} |")
    return "\n".join(lines)


def page() -> str:
    """The page with its table."""
    before, rest = PAGE.read_text().split(BEGIN)
    return f"{before}{BEGIN}\n{table()}\n{END}{rest.split(END)[1]}"


def main() -> None:
    PAGE.write_text(page())


if __name__ == "__main__":
    main()
