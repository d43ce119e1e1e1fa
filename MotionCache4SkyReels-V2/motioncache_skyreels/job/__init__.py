"""The demo of SkyReels-V2: one prompt without a cache, with the preset `exact` and with the chosen one, compared."""
