"""The cache on a `MagiPipeline`, from `enable_cache` to `disable_cache`."""

from pathlib import Path
from typing import Any

from motioncache.api import presets_file
from motioncache.decision import Policy
from motioncache.engine import Engine
from motioncache.forecast.calibration import ModelIdentity, sample_weights
from motioncache.forecast.policy import ForecastPlanner
from motioncache.policies.none import NoCache
from motioncache.presets import ForecastConfig, PolicyConfig
from motioncache_magi.cache.cost import MagiCost
from motioncache_magi.cache.policy import MagiReuseConfig, Residual
from motioncache_magi.compat.published import sampler_of
from motioncache_magi.model.config import MagiConfig
from motioncache_magi.model.dit import VideoDiT
from motioncache_magi.sampling.sampler import Sampler
from motioncache_magi.sampling.schedule import WindowSchedule


def identity_of(transformer: VideoDiT) -> ModelIdentity:
    """What a calibration says that it was measured on."""
    config = transformer.config
    return ModelIdentity(config.num_layers, config.hidden_size, sample_weights(transformer.final_linear.linear.weight))


class MagiHook:
    """Supplies the pipeline's sampler with an engine. The pipeline has a place for one, so nothing is patched."""

    def __init__(self, pipeline: Any, config: PolicyConfig) -> None:
        self._pipeline = pipeline
        self.config = config
        self.engine = Engine(NoCache())
        self._cost: MagiCost | None = None
        presets = presets_file(Path(__file__).parents[1])
        self._planner = ForecastPlanner(config, presets) if isinstance(config, ForecastConfig) else None
        pipeline.cache = self

    @property
    def reuse(self) -> MagiReuseConfig | None:
        """How reused tokens move on; None where everything is computed."""
        if isinstance(self.config, ForecastConfig):
            return MagiReuseConfig(residual=Residual.velocity)
        return self.config if isinstance(self.config, MagiReuseConfig) else None

    @property
    def sampler(self) -> type[Sampler]:
        return sampler_of(self.reuse)

    def start_video(self, config: MagiConfig, schedule: WindowSchedule, *, words: int, tokens_per_chunk: int) -> None:
        """Take in the schedule of the video that comes."""
        self._cost = MagiCost(config=config, schedule=schedule, words=words)
        self.engine.policy = self._policy(schedule, self._cost, tokens_per_chunk)

    def _policy(self, schedule: WindowSchedule, cost: MagiCost, tokens_per_chunk: int) -> Policy:
        if isinstance(self.config, MagiReuseConfig):
            return self.config.policy(schedule)
        if self._planner is not None:
            return self._planner.plan(cost.profile(tokens_per_chunk), identity_of(self._pipeline.transformer))
        return NoCache()

    def cost(self) -> MagiCost:
        """FLOPs of the last video."""
        if self._cost is None:
            schedule = WindowSchedule(chunks=1, prefix_chunks=0, steps=4, window=4, ranges=(), clean_range=1)
            return MagiCost(config=self._pipeline.config, schedule=schedule, words=0)
        return self._cost

    def undo(self) -> None:
        """Give the pipeline back without a cache, and free all state."""
        self._pipeline.cache = None
        self.engine.drop()
