"""The settings of a model are checked, and survive its folder."""

from __future__ import annotations

import pytest

from autodir.diffusion.settings import SD15, SD21, SMALL, DiffusionConfig
from autodir.errors import ConfigError


@pytest.mark.parametrize("config", [SMALL, SD15, SD21])
def test_settings_survive_json(config: DiffusionConfig) -> None:
    assert DiffusionConfig.from_mapping(config.to_dict()) == config


def test_folders_without_the_newer_settings_mean_what_they_meant() -> None:
    old = {"working_pixels": 262144, "steps": 4, "clamp": True}
    read = DiffusionConfig.from_mapping(old)
    assert (read.start, read.prompt) == ("noise", None)


@pytest.mark.parametrize("values", [{"steps": 0}, {"start": "photograph"}])
def test_impossible_settings_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        DiffusionConfig.from_mapping(values)
