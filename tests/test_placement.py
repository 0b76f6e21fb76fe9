"""Parts come when they are called and go when another is; nothing of it shows in the photo."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from autodir.checkpoint import Model
from autodir.config import RestoreOptions, RuntimeOptions
from autodir.errors import ConfigError
from autodir.pipeline import Restorer
from autodir.placement import Offload, compile_parts, pixel_major

HOST = torch.device("cpu")
ONE_ROUND = RestoreOptions(max_steps=1, only=("rain",), structure_weight=1.0, sampling_steps=3)


def photo(height: int = 40, width: int = 56) -> torch.Tensor:
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def moves(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every move of a part: ``+name`` to the device, ``-name`` back."""
    seen: list[str] = []
    plain = Offload._move

    def move(self: Offload, name: str, device: torch.device) -> None:
        seen.append(("-" if self.present == name else "+") + name)
        plain(self, name, device)

    monkeypatch.setattr(Offload, "_move", move)
    return seen


def test_parts_come_in_the_order_of_the_loop_and_the_unet_once(
    tiny_model: Model, moves: list[str]
) -> None:
    restorer = Restorer(copy.deepcopy(tiny_model), offload=HOST)
    restorer.diffusion.phrases.clear()
    restorer.diffusion.autoencoder.encode(torch.rand(1, 3, 32, 32))
    moves.clear()
    restorer.restore(photo(), ONE_ROUND)
    arrivals = [name for name in moves if name.startswith("+")]
    # diagnose and read the instruction, encode, sample, decode, correct, judge
    assert arrivals == ["+diagnosis", "+vae", "+unet", "+vae", "+scm", "+diagnosis"]
    assert all(move[0] == "-+"[index % 2] for index, move in enumerate(moves))  # one at a time


def test_offloading_does_not_show_in_the_photo(tiny_model: Model) -> None:
    plain = Restorer(copy.deepcopy(tiny_model)).restore(photo(), ONE_ROUND)
    moved = Restorer(copy.deepcopy(tiny_model), offload=HOST).restore(photo(), ONE_ROUND)
    assert len(moved.report.steps) == 1
    assert torch.equal(plain.image.pixels, moved.image.pixels)


def test_only_the_part_at_work_is_on_the_device() -> None:
    """The device is one without memory, where a layer leaves its place but not its values."""
    parts = {name: nn.Sequential(nn.Linear(2, 2), nn.ReLU()) for name in ("a", "b")}
    there: dict[str, list[torch.device]] = {}

    class Noting(Offload):
        def _move(self, name: str, device: torch.device) -> None:
            there.setdefault(name, []).append(device)

    keeper = Noting(parts, torch.device("meta"))
    x = torch.rand(1, 2)
    for name in ("a", "a", "b", "a"):
        parts[name](x)
    meta = torch.device("meta")
    assert there == {"a": [meta, HOST, meta], "b": [meta, HOST]}
    assert keeper.present == "a"


def test_photos_go_where_the_parts_are_computed(tiny_model: Model) -> None:
    diffusion = copy.deepcopy(tiny_model).latent_diffusion()
    assert diffusion.device == HOST
    diffusion.place(torch.device("meta"))
    assert diffusion.device == torch.device("meta")
    assert diffusion.configured(diffusion.config).device == torch.device("meta")


def test_pixel_major_networks_compute_the_same(tiny_model: Model) -> None:
    changed = copy.deepcopy(tiny_model)
    pixel_major(changed)
    assert changed.unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    plain, fast = (Restorer(model).restore(photo(), ONE_ROUND) for model in (tiny_model, changed))
    torch.testing.assert_close(fast.image.pixels, plain.image.pixels, rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_parts_compute_the_same(tiny_model: Model) -> None:
    compiled = copy.deepcopy(tiny_model)
    compile_parts(compiled, backend="eager")
    assert compiled.unet._compiled_call_impl is not None
    plain, fast = (Restorer(model).restore(photo(), ONE_ROUND) for model in (tiny_model, compiled))
    torch.testing.assert_close(fast.image.pixels, plain.image.pixels, rtol=0, atol=1e-4)


def test_compiling_is_for_the_networks_that_take_the_time(tiny_model: Model) -> None:
    model = copy.deepcopy(tiny_model)
    compile_parts(model, backend="eager")
    halves = (model.autoencoder.net.encoder, model.autoencoder.net.decoder)
    for module in (model.unet, *halves, model.scm.network):
        assert module._compiled_call_impl is not None
    assert model.head._compiled_call_impl is None


@pytest.mark.parametrize("flag", ["offload", "compile"])
def test_from_pretrained_does_what_the_flag_says(
    tiny_model_folder: Any, monkeypatch: pytest.MonkeyPatch, flag: str
) -> None:
    called: list[str] = []

    def noting(name: str) -> Callable[..., None]:
        return lambda *_: called.append(name)

    monkeypatch.setattr("autodir.pipeline.keep_one", noting("offload"))
    monkeypatch.setattr("autodir.pipeline.compile_parts", noting("compile"))
    Restorer.from_pretrained(tiny_model_folder, device="cpu", **{flag: True})
    assert called == [flag]


def test_offload_and_compile_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match="--offload and --compile"):
        RuntimeOptions(offload=True, compile=True)
