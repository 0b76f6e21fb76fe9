import pytest
import torch
from torch import nn
from torch.nn import functional


def test_operations_and_memory_of_a_convolution_are_those_of_the_books(program):
    with torch.device("meta"):
        network = nn.Conv2d(4, 8, 3, padding=1)
        x = torch.empty(1, 4, 16, 16)
    operations, peak = program("speed/shapes").count(lambda: network(x))
    assert operations == 2 * 4 * 8 * 9 * 16 * 16
    assert peak == 8 * 16 * 16 * 4


def test_memory_counts_what_is_alive_at_once(program):
    x = torch.empty(1000, device="meta")

    def chain() -> torch.Tensor:
        y = x + 1
        z = y * 2
        del y
        return (z - 1).view(10, 100)  # a view takes none

    assert program("speed/shapes").count(chain)[1] == 2 * 4000


def test_attention_holds_no_matrix(program):
    q = torch.empty(1, 2, 64, 8, device="meta")
    run = functional.scaled_dot_product_attention
    operations, peak = program("speed/shapes").count(lambda: run(q, q, q))
    assert (operations, peak) == (4 * 2 * 64 * 64 * 8, 2 * 64 * 8 * 4)


def test_published_shapes_have_the_published_parameters(program):
    module = program("speed/shapes")
    held = module.weights(module.networks(torch.bfloat16))
    counts = {name: part["parameters"] for name, part in held.items()}
    assert counts["unet"] == 859_532_484
    assert counts["scm"] == 115_984_643
    assert counts["vae"] == 83_653_863
    assert counts["clip"] == pytest.approx(427_616_847, abs=400)  # but for the positions


def test_table_adds_up(program):
    module = program("speed/shapes")
    passes = {
        name: {"operations": 10**12, "peak": 2**30} for name in ("encode", "decode", "correct")
    }
    passes["unet"] = {"operations": 2 * 10**12, "peak": 2**31}
    held = {"unet": {"parameters": 5, "bytes": 2**31}, "vae": {"parameters": 1, "bytes": 2**30}}
    row = module.tabulate(held, {512: passes}, {512: 2**30}, steps=10)["rows"][0]
    assert row[:3] == ["512×512", "2.00", "23"]
    assert row[-3:] == ["5.0", "4.0", "3.0"]
