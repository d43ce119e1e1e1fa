"""Evaluation that depends on no model: the demo, the benchmark, metrics, video files, figures, procedural scenes."""
