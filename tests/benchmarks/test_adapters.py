"""Adapters against concatenation: what a row says, and what is refused."""

from types import SimpleNamespace

import pytest

from autodir.errors import ConfigError


def result(psnr: float) -> dict:
    cell = {"psnr": psnr, "ssim": 0.5, "seconds": 1.0}
    sets = {
        name: {"input": cell, "diffusion": {**cell, "psnr": psnr + more}, "both": cell}
        for name, more in (("rain", 1.0), ("haze", 3.0))
    }
    return {"title": "Adapters", "sets": sets, "limit": None}


def about(**training: list) -> SimpleNamespace:
    sizes = {"unet": 7_000_000} | ({"adapter": 1_500_000} if "adapter" in training else {})
    return SimpleNamespace(parameters=sizes, training=training, sha256="0" * 64, folder="x")


def test_a_row_has_size_time_and_means_over_the_sets(program):
    plain = (
        "concatenation alone",
        about(diffusion=[{"seconds": 60}, {"seconds": 120}]),
        result(20),
    )
    other = ("sft", about(diffusion=[{"seconds": 60}], adapter=[{"seconds": 240}]), result(21))
    found = program("adapters").report([plain, other])
    assert found["rows"][0][:6] == ["concatenation alone", "0.00 M", "3", "22.00", "0.5000", "1.00"]
    assert found["rows"][1][:4] == ["sft", "1.50 M", "4", "23.00"]
    assert "rain: 21.00, 22.00; haze: 23.00, 24.00" in found["notes"][0]


def test_a_model_is_named_by_its_adapter_and_must_have_one(program):
    named = program("adapters").named
    with_one = about(adapter=[{"seconds": 1, "kind": "sft"}])
    assert "StableSR" in named(with_one, is_baseline=False)
    assert named(about(), is_baseline=True) == "concatenation alone"
    for wrong, is_baseline in ((with_one, True), (about(), False)):
        with pytest.raises(ConfigError, match="baseline"):
            named(wrong, is_baseline=is_baseline)


def test_a_missing_model_is_told_in_one_line(program, tmp_path, capsys):
    arguments = ["small", "--data", str(tmp_path), "--baseline", str(tmp_path / "nowhere")]
    assert program("adapters").main(arguments) == 1
    assert "nowhere" in capsys.readouterr().err
