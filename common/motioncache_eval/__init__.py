"""Evaluation that knows no model: fidelity metrics, video files, figures, procedural scenes."""
