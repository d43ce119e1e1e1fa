"""How well a motion proxy ranks tokens by residual change: recordings of videos, measures, and the report."""
