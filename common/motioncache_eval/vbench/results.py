"""What was scored in a run, and its table, figures and page."""

from dataclasses import asdict, dataclass, field
from typing import Any

from motioncache.whole_file import whole_file
from motioncache_eval.report import write_json
from motioncache_eval.vbench.page import write_scores_page
from motioncache_eval.vbench.plan import Plan
from motioncache_eval.vbench.scores import Score, compare, remarks, score_table, totals


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """The scores of a run.

    Attributes:
        dimensions: those that were asked for.
        presets: the first is the one that the others are compared with.
        scores: by preset and dimension.
        reasons: by preset and dimension, why there is no score.
    """

    dimensions: list[str]
    presets: list[str]
    scores: dict[str, dict[str, Score]] = field(init=False)
    reasons: dict[str, dict[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "scores", {preset: {} for preset in self.presets})

    def add(self, preset: str, dimension: str, found: Score | str) -> None:
        """Keep a score, or why there is none."""
        if isinstance(found, Score):
            self.scores[preset][dimension] = found
        else:
            self.reasons.setdefault(preset, {})[dimension] = found


def write_results(plan: Plan, results: Results) -> None:
    """Print the table, and write it as `scores.md`, the figures as `scores.json`, and both with videos as a page."""
    table, notes = score_table(results.scores, results.dimensions), remarks(results.scores, results.reasons)
    text = "\n".join([*table.markdown(), "", *(f"- {line}" for line in notes)])
    print(text)
    with whole_file(plan.output / "scores.md") as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    write_json(plan.output / "scores.json", figures(results))
    page = write_scores_page(plan, results.scores, table, notes)
    print(f"the table and the videos side by side: {page}")


def figures(results: Results) -> dict[str, Any]:
    """All scores from 0 to 1, by preset, with the differences from the first preset."""
    reference = results.scores[results.presets[0]]
    found: dict[str, Any] = {}
    for preset, of in results.scores.items():
        compared = {name: asdict(compare(name, of[name], reference[name])) for name in of if name in reference}
        found[preset] = {
            "dimensions": {name: score.value for name, score in of.items()},
            **totals({name: score.value for name, score in of.items()}),
            "differences": {} if preset == results.presets[0] else compared,
            "not_measured": results.reasons.get(preset, {}),
        }
    return found
