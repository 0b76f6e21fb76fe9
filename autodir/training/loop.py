"""One training loop for every part: budget in seconds, resume, EMA, CSV of losses, sample sheets.

Apart from the parts because it knows no model: a part brings a module, a loss and a way to show
samples.
"""

from __future__ import annotations

import csv
import json
import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import broadcast, parse_flag_from_env
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from autodir.errors import CheckpointError, ConfigError

logger = logging.getLogger(__name__)

Loss = Callable[[nn.Module, torch.Generator, float], tuple[Tensor, Mapping[str, float | Tensor]]]
Sample = Callable[[nn.Module, Path], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class LoopOptions:
    """How long and how fast one part is trained.

    Attributes:
        budget: wall-clock seconds; the cosine schedule ends with it.
        max_steps: end after so many steps, whatever is left of the budget.
        learning_rate: peak rate of AdamW, reached after ``warmup`` steps, then cosine to
            ``final_ratio`` of it.
        clip: largest gradient norm.
        ema: decay of the averaged weights, which are what a part hands on.
        precision: "fp32" or "bf16" (autocast).
        save_every, log_every: seconds between saved states, steps between CSV rows.
    """

    budget: float
    max_steps: int | None = None
    learning_rate: float = 2e-3
    warmup: int = 100
    final_ratio: float = 0.01
    weight_decay: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.99)
    clip: float = 1.0
    ema: float = 0.999
    precision: str = "bf16"
    seed: int = 0
    resume: bool = False
    save_every: float = 120.0
    sample_every: float = 300.0
    log_every: int = 20

    def __post_init__(self) -> None:
        if self.budget <= 0:
            raise ConfigError(f"a training budget must be positive, got {self.budget} s")
        if self.precision not in ("fp32", "bf16"):
            raise ConfigError(f"training precision is fp32 or bf16, got {self.precision!r}")


class _State:
    """Everything a killed run needs to go on: weights, averages, moments, random state, clock."""

    def __init__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, generator: torch.Generator
    ) -> None:
        self.model, self.optimizer, self.generator = model, optimizer, generator
        self.average = {k: v.detach().clone() for k, v in model.state_dict().items()}
        self.step, self.elapsed = 0, 0.0

    def update_average(self, decay: float) -> None:
        """Exponential moving average, of short memory in the first steps; integers are copied."""
        decay = min(decay, (1 + self.step) / (10 + self.step))
        for key, value in self.model.state_dict().items():
            if value.is_floating_point():
                self.average[key].lerp_(value.detach(), 1 - decay)
            else:
                self.average[key].copy_(value)

    def save(self, folder: Path, accelerator: Accelerator) -> None:
        """Write the state; every process takes part, for each has a random state of its own."""
        own = self.generator.get_state().to(accelerator.device)
        generators = accelerator.gather(own[None]).cpu()
        if not accelerator.is_main_process:
            return
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.average.items()}
        for index, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"moment.{index}.{k}": torch.as_tensor(v) for k, v in moments.items()}
        tensors["generator"] = generators[0]
        tensors |= {f"generator.{rank}": one for rank, one in enumerate(generators) if rank}
        save_file({k: v.contiguous().clone() for k, v in tensors.items()}, folder / "state.tmp")
        (folder / "state.tmp").replace(folder / "state.safetensors")
        clock = json.dumps({"step": self.step, "elapsed": self.elapsed})
        (folder / "clock.tmp").write_text(clock, encoding="utf-8")
        (folder / "clock.tmp").replace(folder / "state.json")

    def load(self, folder: Path, rank: int) -> None:
        tensors = load_file(folder / "state.safetensors")
        clock = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        self.step, self.elapsed = int(clock["step"]), float(clock["elapsed"])
        own = {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
        try:
            self.model.load_state_dict(own)
        except RuntimeError as error:
            raise CheckpointError(
                f"{folder} holds the state of another network: {error}",
                "train into an empty folder",
            ) from error
        for key in self.average:
            self.average[key].copy_(tensors[f"average.{key}"])
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith("moment."):
                _, index, name = key.split(".", 2)
                moments.setdefault(int(index), {})[name] = value
        plain = self.optimizer.state_dict()
        plain["state"] = moments
        self.optimizer.load_state_dict(plain)
        name = f"generator.{rank}" if rank else "generator"
        if name in tensors:  # more processes than before: the new ones draw what they would anyway
            self.generator.set_state(tensors[name])


def processes() -> PartialState:
    """The processes that train together: one, or those that ``accelerate launch`` has started."""
    is_on_cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.cuda.is_available()
    return PartialState(cpu=is_on_cpu)


def learning_rate_at(progress: float, step: int, options: LoopOptions) -> float:
    """Linear warm-up in steps, then cosine over the share of the budget that is spent (0..1)."""
    cosine = 0.5 * (1 + math.cos(math.pi * min(max(progress, 0.0), 1.0)))
    rate = options.learning_rate * (options.final_ratio + (1 - options.final_ratio) * cosine)
    return rate * min(1.0, (step + 1) / max(options.warmup, 1))


def fit(
    model: nn.Module,
    loss: Loss,
    options: LoopOptions,
    run_dir: Path,
    sample: Sample | None = None,
) -> nn.Module:
    """Train ``model`` in place until the budget is spent, and leave its averaged weights in it.

    Args:
        model: the part; parameters without ``requires_grad`` stay as they are.
        loss: ``(model, generator, progress) → (loss, figures for the CSV)``; draws its own batch
            from the generator.
        options: schedule and budget.
        run_dir: gets ``state.*``, ``losses.csv`` and ``samples.png``.
        sample: writes a picture of what the averaged model does now.

    Returns:
        ``model``, holding the averaged weights, in eval mode.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    # One process trains parts of different precision in turn; accelerate remembers the first.
    processes()
    AcceleratorState._reset_state()
    accelerator = Accelerator(
        mixed_precision="bf16" if options.precision == "bf16" else "no",
        # With one process nothing is distributed. Some losses leave weights out in some steps.
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )
    trainable = [p for p in model.parameters() if p.requires_grad]
    decayed = [p for p in trainable if p.ndim > 1]
    plain = [p for p in trainable if p.ndim <= 1]
    groups: list[dict[str, Any]] = [
        {"params": decayed, "weight_decay": options.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=options.learning_rate, betas=options.betas)
    # Convolutions read and write pixel by pixel: up to twice as fast, on CPU and GPU alike.
    wrapped, prepared = accelerator.prepare(model.to(memory_format=torch.channels_last), optimizer)
    generator = torch.Generator().manual_seed(options.seed + 1_000_003 * accelerator.process_index)
    state = _State(accelerator.unwrap_model(wrapped), optimizer, generator)
    if options.resume and (run_dir / "state.safetensors").exists():
        state.load(run_dir, accelerator.process_index)
        logger.info("resumed %s at step %d, %.0f s", run_dir, state.step, state.elapsed)
    wrapped.train()
    before, last_save, last_sample = state.elapsed, state.elapsed, state.elapsed
    started = time.monotonic()
    skipped = 0
    while state.elapsed < options.budget and state.step < (options.max_steps or math.inf):
        progress = state.elapsed / options.budget
        if options.max_steps is not None:
            progress = max(progress, state.step / options.max_steps)
        rate = learning_rate_at(progress, state.step, options)
        for group in optimizer.param_groups:
            group["lr"] = rate
        with accelerator.autocast():
            value, figures = loss(wrapped, generator, progress)
        accelerator.backward(value)
        norm = accelerator.clip_grad_norm_(trainable, options.clip)
        if norm is None or bool(torch.isfinite(norm)):
            prepared.step()
            state.update_average(options.ema)
        else:
            skipped += 1  # one bad batch must not end a long run
        prepared.zero_grad(set_to_none=True)
        state.step += 1
        state.elapsed = _agreed(before + time.monotonic() - started, accelerator)
        if state.step % options.log_every == 0 and accelerator.is_main_process:
            _log(run_dir / "losses.csv", state, rate, value, figures, skipped)
        if state.elapsed - last_save > options.save_every:
            state.save(run_dir, accelerator)
            last_save = state.elapsed
        if sample is not None and state.elapsed - last_sample > options.sample_every:
            if accelerator.is_main_process:
                _show(state, sample, run_dir)
            last_sample = state.elapsed
    state.save(run_dir, accelerator)
    if sample is not None and accelerator.is_main_process:
        _show(state, sample, run_dir)
    accelerator.wait_for_everyone()
    state.model.load_state_dict(state.average)
    for name in ("forward", "_original_forward"):  # autocast was for the training alone
        state.model.__dict__.pop(name, None)
    return state.model.eval()


def _agreed(seconds: float, accelerator: Accelerator) -> float:
    """The clock of the main process, so that all processes end with the same step."""
    if accelerator.num_processes == 1:
        return seconds
    clock = torch.tensor([seconds], dtype=torch.float64, device=accelerator.device)
    return float(broadcast(clock))


def _log(
    path: Path,
    state: _State,
    rate: float,
    value: Tensor,
    figures: Mapping[str, float | Tensor],
    skipped: int,
) -> None:
    row = {
        "step": state.step,
        "seconds": round(state.elapsed, 1),
        "rate": f"{rate:.3g}",
        "loss": f"{_plain(value):.5f}",
    }
    row |= {key: f"{_plain(figure):.5f}" for key, figure in figures.items()}
    row["skipped"] = skipped
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, fieldnames=list(row))
        if new:
            writer.writeheader()
        writer.writerow(row)
    logger.info("%s", " ".join(f"{key}={figure}" for key, figure in row.items()))


def _plain(figure: float | Tensor) -> float:
    return float(figure.detach() if isinstance(figure, Tensor) else figure)


def _show(state: _State, sample: Sample, run_dir: Path) -> None:
    """Draw the samples with the averaged weights, then go on with the trained ones."""
    current = {k: v.detach().clone() for k, v in state.model.state_dict().items()}
    state.model.load_state_dict(state.average)
    state.model.eval()
    with torch.no_grad():
        sample(state.model, run_dir / "samples.png")
    state.model.load_state_dict(current)
    state.model.train()
