"""Parameters, arithmetic and memory of `sd15` by analysis: its networks run without values.

Every operation is carried out on tensors that have shapes only (torch's meta device). Counted are
multiplications and additions, and the bytes of all tensors alive at once; attention is counted as
the fused kernel that GPUs run, which never holds the whole matrix.
"""

from __future__ import annotations

import argparse
import math
import sys
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from autodir.builders import PARTS_SD15, part_dtype
from autodir.clip import Clip
from autodir.correction.scm import LOCAL_WINDOW, StructureCorrector
from autodir.diffusion.autoencoder import Autoencoder
from autodir.diffusion.tiled import reach
from autodir.diffusion.unet import build_unet
from autodir.evaluation.provenance import circumstances
from autodir.evaluation.suite import SCHEMA, result_path, write_result

RESULTS = Path(__file__).resolve().parents[1] / "results"
SIZES = (512, 768, 1024, 2048)
TILE = 64
"""Side in latents of the tiles of the last column, as `--tile 64`."""
DEVICES: Mapping[str, float] = {"RTX 4090": 165e12, "A100": 312e12, "H100": 989e12}
"""Dense float16 operations a second that their makers state."""
UTILIZATION = 0.4
"""Share of them that convolutions and attention are assumed to reach."""
_GIGA = 1 << 30


class Attention(TorchFunctionMode):
    """Fused attention: the output alone takes memory; its operations are counted here."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is not functional.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        query, key, value = (*args, *(kwargs or {}).values())[:3]
        *batch, length, width = query.shape
        self.operations += 4 * math.prod(batch) * length * key.shape[-2] * width
        return query.new_empty((*batch, length, value.shape[-1]))


class Alive(TorchDispatchMode):
    """The bytes of all tensors made inside and alive at once."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._users: dict[int, int] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {id(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and id(leaf) not in given:
                self._watch(leaf)
        return result

    def _watch(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key not in self._users:
            self._users[key] = 0
            self.now += size
            self.peak = max(self.peak, self.now)
        self._users[key] += 1
        weakref.finalize(tensor, self._leave, key, size)

    def _leave(self, key: int, size: int) -> None:
        self._users[key] -= 1
        if not self._users[key]:
            del self._users[key]
            self.now -= size


def count(run: Callable[[], object]) -> tuple[int, int]:
    """Operations of a computation on the meta device, and the bytes alive at its peak."""
    counter, attention, alive = FlopCounterMode(display=False), Attention(), Alive()
    with torch.no_grad(), counter, attention, alive:
        run()
    return counter.get_total_flops() + attention.operations, alive.peak


def networks(dtype: torch.dtype) -> dict[str, nn.Module]:
    """The parts of `sd15` without values, each in the dtype in which it runs."""
    with torch.device("meta"):
        parts = {
            "clip": Clip.from_config(PARTS_SD15["clip"]),
            "vae": Autoencoder(PARTS_SD15["vae"]),
            "unet": build_unet(PARTS_SD15["unet"]),
            "scm": StructureCorrector(**PARTS_SD15["scm"]),
        }
    return {name: part.to(part_dtype(name, dtype)).eval() for name, part in parts.items()}


def weights(parts: Mapping[str, nn.Module]) -> dict[str, dict[str, int]]:
    """Parameters and bytes of each part."""
    return {
        name: {
            "parameters": sum(p.numel() for p in part.parameters()),
            "bytes": sum(p.numel() * p.element_size() for p in part.parameters()),
        }
        for name, part in parts.items()
    }


def one_pass(parts: Mapping[str, Any], side: int, dtype: torch.dtype) -> dict[str, dict[str, int]]:
    """Operations and peak of one pass of each network over ``side`` × ``side`` pixels."""
    vae, unet, scm = parts["vae"], parts["unet"], parts["scm"]
    latent = side // vae.factor
    with torch.device("meta"):
        photo = torch.empty(1, 3, side, side)
        latents = torch.empty(1, 4, latent, latent)
        told = torch.empty(1, 77, 768, dtype=dtype)
        doubled = torch.empty(1, 8, latent, latent, dtype=dtype)
        time = torch.zeros(1)
    encoder, decoder = vae.net.encoder, vae.net.decoder
    runs: dict[str, Callable[[], object]] = {
        "encode": lambda: encoder(photo.to(vae.dtype)),
        "unet": lambda: unet(doubled, time, encoder_hidden_states=told),
        "decode": lambda: decoder(latents.to(vae.dtype)),
        "correct": lambda: scm(photo, photo, None),
    }
    found = {}
    for name, run in runs.items():
        operations, peak = count(run)
        found[name] = {"operations": operations, "peak": peak}
    return found


def tiled_peak(parts: Mapping[str, Any], side: int, dtype: torch.dtype) -> int:
    """The largest peak where every network works on tiles, the latents in tiles of `TILE`."""
    vae, scm = parts["vae"], parts["scm"]
    tile = PARTS_SD15["diffusion"]["autoencoder_tile"]
    context = max(reach(vae.config)[0], reach(vae.config)[1] * vae.factor)
    window = {
        "unet": TILE * vae.factor,
        "decode": tile + 2 * context if side > tile else side,
        "correct": scm.tile + 2 * LOCAL_WINDOW,
    }
    peaks = [
        one_pass(parts, -(-min(limit, side) // 64) * 64, dtype)[name]["peak"]
        for name, limit in window.items()
    ]
    return max(peaks)


def tabulate(
    held: Mapping[str, Mapping[str, int]],
    found: Mapping[int, Mapping[str, Mapping[str, int]]],
    tiled: Mapping[int, int],
    steps: int,
) -> dict[str, Any]:
    """One row a size."""
    weight = sum(part["bytes"] for part in held.values())
    alone = max(part["bytes"] for part in held.values())
    columns = ["one round", "U-Net pass, T operations", f"round of {steps} steps"]
    columns += [f"s on {name}" for name in DEVICES]
    columns += ["GiB, all parts", "GiB, --offload", f"GiB, --offload --tile {TILE}"]
    rows = []
    for side, parts in found.items():
        total = steps * parts["unet"]["operations"]
        total += sum(parts[name]["operations"] for name in ("encode", "decode", "correct"))
        peak = max(part["peak"] for part in parts.values())
        memory = (weight + peak, alone + peak, alone + tiled[side])
        rows.append(
            [
                f"{side}×{side}",
                f"{parts['unet']['operations'] / 1e12:.2f}",
                f"{total / 1e12:.0f}",
                *(f"{total / speed / UTILIZATION:.1f}" for speed in DEVICES.values()),
                *(f"{size / _GIGA:.1f}" for size in memory),
            ]
        )
    counted = ", ".join(f"{name} {part['parameters'] / 1e6:.1f} M" for name, part in held.items())
    notes = [
        f"By analysis, not measured. Parameters: {counted}. One branch of guidance, weights and "
        f"activations in 16 bits (CLIP in 32); seconds at {UTILIZATION:.0%} of the stated speed of "
        "each GPU. Memory is that of tensors; a kernel's workspace comes on top."
    ]
    return {"columns": columns, "rows": rows, "notes": notes, "weights": held, "passes": found}


def main(arguments: Sequence[str] | None = None) -> int:
    """Count and write the result."""
    parser = argparse.ArgumentParser(description="Operations and memory of sd15 by analysis.")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--steps", type=int, default=int(PARTS_SD15["diffusion"]["steps"]))
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    dtype = torch.bfloat16
    parts = networks(dtype)
    found = {side: one_pass(parts, side, dtype) for side in options.sizes}
    tiled = {side: tiled_peak(parts, side, dtype) for side in options.sizes}
    table = tabulate(weights(parts), found, tiled, options.steps)
    result = {
        "schema": SCHEMA,
        "suite": "speed_shapes",
        "title": "sd15 by analysis",
        "kind": "speed",
        "model": {"model": "sd15"},
        "circumstances": circumstances(),
        **table,
    }
    write_result(result, result_path(options.out, result))
    for row in table["rows"]:
        print("  ".join(row))
    return 0


if __name__ == "__main__":
    sys.exit(main())
