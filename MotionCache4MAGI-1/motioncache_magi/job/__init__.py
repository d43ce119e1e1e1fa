"""The demo of MAGI-1: one prompt without a cache, with the preset `exact` and with the chosen one, compared."""
