"""The errors a user of the library can meet; each says what is wrong and what to do."""


class MotionCacheError(ValueError):
    """Wrong input, or a model and a call that the cache cannot serve."""


class ConfigError(MotionCacheError):
    """A configuration with an unknown key, a wrong type, or a value out of range."""
