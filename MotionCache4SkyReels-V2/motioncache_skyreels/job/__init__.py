"""The main job: one prompt without a cache, with the `exact` tier, and with the chosen preset, compared."""
