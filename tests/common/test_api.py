"""The public names."""

import motioncache
from motioncache.registry import installed_adapters


def test_everything_that_is_exported_has_a_docstring() -> None:
    assert set(motioncache.__all__) >= {
        "cached",
        "disable_cache",
        "enable_cache",
        "last_trace",
        "load_config",
        "summary",
    }
    for name in motioncache.__all__:
        exported = getattr(motioncache, name)
        assert name == "PolicyConfig" or (exported.__doc__ or "").strip(), name


def test_installed_adapters_are_found_by_their_entry_points() -> None:
    assert "skyreels-v2" in {adapter.name for adapter in installed_adapters()}
