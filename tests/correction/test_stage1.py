"""Stage 1 by models of other projects: any size, any scale, and errors in words."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from autodir.correction.stage1 import Stage1, load_stage1
from autodir.errors import CheckpointError, MissingExtraError


def photo(height: int, width: int) -> Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(height))


@pytest.mark.parametrize("size", [(8, 8), (7, 50), (40, 33)])
@pytest.mark.parametrize("scale", [1, 2])
def test_size_stays_whatever_the_network_does(size: tuple[int, int], scale: int) -> None:
    def network(pixels: Tensor) -> Tensor:
        return functional.interpolate(pixels, scale_factor=scale) * 0.5

    result = Stage1(network, "half", tile=16)(photo(*size))
    assert result.shape == (1, 3, *size)
    assert float((result - 0.5 * photo(*size)).abs().max()) < 0.02 if scale == 1 else True
    assert float(result.mean()) == pytest.approx(0.5 * float(photo(*size).mean()), abs=0.01)


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Real-ESRGAN compact network with random weights."""
    pytest.importorskip("spandrel")
    from spandrel.architectures.Compact import Compact

    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Compact(num_feat=8, num_conv=1, upscale=2)
    path = tmp_path_factory.mktemp("stage1") / "compact.safetensors"
    save_file(network.state_dict(), path)
    return path


def test_a_model_of_another_project_is_read_and_run(model_file: Path) -> None:
    stage = load_stage1(model_file)
    assert "compact.safetensors" in stage.name
    result = stage(photo(20, 30))
    assert result.shape == (1, 3, 20, 30)
    assert 0 <= float(result.min()) <= float(result.max()) <= 1
    assert torch.equal(result, load_stage1(str(model_file))(photo(20, 30)))


@pytest.mark.filterwarnings("ignore:torch.meshgrid:UserWarning")
@pytest.mark.parametrize("wrapped", [True, False], ids=["trainer's file", "state dict"])
def test_the_published_swinir_of_diffbir_is_read(tmp_path: Path, wrapped: bool) -> None:
    pytest.importorskip("spandrel")
    from spandrel.architectures.SwinIR import SwinIR

    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = SwinIR(
            img_size=16, patch_size=1, in_chans=3, embed_dim=12, depths=[2], num_heads=[2],
            window_size=8, mlp_ratio=2, upscale=8, img_range=1.0, upsampler="nearest+conv",
            resi_connection="1conv", start_unshuffle=8,
        )  # fmt: skip
    state = {  # the release unshuffles in front of the first convolution, which is its second layer
        name.replace("conv_first.", "conv_first.1."): value
        for name, value in network.state_dict().items()
    }
    named = {f"module.{name}": value for name, value in state.items()}
    torch.save({"state_dict": named} if wrapped else state, tmp_path / "swinir.ckpt")
    stage = load_stage1(tmp_path / "swinir.ckpt")
    assert stage(photo(64, 72)).shape == (1, 3, 64, 72)


def test_the_published_bsrnet_of_diffbir_is_read(tmp_path: Path) -> None:
    pytest.importorskip("spandrel")
    from spandrel.architectures.ESRGAN import ESRGAN

    network = ESRGAN(in_nc=3, out_nc=3, num_filters=8, num_blocks=1, scale=4, plus=False)
    torch.save(network.state_dict(), tmp_path / "BSRNet.pth")
    stage = load_stage1(tmp_path / "BSRNet.pth")
    assert stage(photo(24, 16)).shape == (1, 3, 24, 16)


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("spandrel")
    with pytest.raises(CheckpointError, match="no file"):
        load_stage1(tmp_path / "nowhere.safetensors")
    save_file({"weight": torch.zeros(3)}, tmp_path / "odd.safetensors")
    with pytest.raises(CheckpointError, match=r"odd\.safetensors"):
        load_stage1(tmp_path / "odd.safetensors")


def test_a_network_for_gray_pictures_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("spandrel")
    from spandrel.architectures.Compact import Compact

    gray = Compact(num_in_ch=1, num_out_ch=1, num_feat=8, num_conv=1, upscale=1)
    save_file(gray.state_dict(), tmp_path / "gray.safetensors")
    with pytest.raises(CheckpointError):
        load_stage1(tmp_path / "gray.safetensors")


def test_the_extra_is_named_where_it_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "spandrel", None)
    with pytest.raises(MissingExtraError) as caught:
        load_stage1(tmp_path / "model.pth")
    assert "autodir[stage1]" in caught.value.hint
