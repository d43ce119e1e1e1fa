"""The main job: one prompt, sampled without a cache, with the `exact` tier, and with the chosen preset, and compared."""
