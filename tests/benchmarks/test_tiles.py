import pytest
import torch

from autodir.checkpoint import Model
from autodir.pipeline import Restorer


def test_borders_are_where_the_parts_begin(program):
    rows, columns = program("speed/tiles").borders((96, 160), 64, 8, 16)
    assert (rows, columns) == ([48], [48, 96])


def test_differences_are_told_in_levels_and_found_at_borders(program):
    whole = torch.full((1, 3, 16, 24), 0.5)
    tiled = whole.clone()
    tiled[..., 12:] += 2 / 255  # a step at the border
    tiled[..., 3, 5] += 5 / 255  # a difference elsewhere
    found = program("speed/tiles").differences(whole, tiled, ([], [12]))
    assert found["largest"] == pytest.approx(5, abs=1e-3)
    assert found["at_borders"] == pytest.approx(2, abs=1e-3)
    assert found["step"] == pytest.approx(2, abs=1e-3)


def test_tiles_of_a_model_do_not_show(program, tiny_model: Model):
    module = program("speed/tiles")
    pixels = module.sample_photo(96, 160)
    scm = tiny_model.scm
    before = scm.tile, scm.overlap
    found = module.compare(Restorer(tiny_model), pixels, "noise", 32)
    assert set(found) == {"encoder", "decoder", "correction", "sampling"}
    assert max(found[part]["largest"] for part in ("encoder", "decoder", "correction")) < 1
    assert found["sampling"]["largest"] > 0
    assert (scm.tile, scm.overlap) == before
    table = module.tabulate(found, {"size": [30, 40], "seconds": 1.6, "peak_memory_bytes": 3 << 20})
    assert [row[0] for row in table["rows"]] == list(found)
    assert "40×30 in tiles: 2 s, peak memory of the process 3 MiB" in table["notes"][1]
