"""Two processes train one model: the same weights, different data, one clock, and a resume."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import sys
from pathlib import Path

import torch
from accelerate import PartialState
from torch import nn

from autodir.training.loop import LoopOptions, fit


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 2), nn.Linear(2, 2)
        for parameter in self.parameters():
            nn.init.constant_(parameter, 0.1)

    def forward(self, x, whole):
        return self.second(self.first(x)) if whole else self.first(x)


def loss(module, generator, progress):
    if len(drawn) == stop:
        raise KeyboardInterrupt
    x = torch.randn(8, 3, generator=generator)
    drawn.append(float(x.sum()))
    return (module(x, len(drawn) % 3 > 0).float() - x[:, :2]).square().mean(), {}


drawn = []
folder, stop, budget = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
options = LoopOptions(
    budget=budget, max_steps=6 if budget > 100 else None, learning_rate=1e-2, warmup=1,
    precision="fp32", resume=True, log_every=1, save_every=0.0,
)
trained = Net()
try:
    fit(trained, loss, options, folder)
except KeyboardInterrupt:
    pass
weights = [float(value) for p in trained.parameters() for value in p.detach().flatten()]
rank = PartialState().process_index
(folder / f"rank{rank}.txt").write_text(repr([len(drawn), drawn, weights]))
PartialState().destroy_process_group()
"""


def launch(*arguments: str) -> None:
    """Two processes on the CPU (gloo), as ``accelerate launch`` starts them."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    changes = {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, *arguments], env=os.environ | changes, capture_output=True, text=True,
        check=False, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


def seen(folder: Path) -> list[tuple[int, list[float], list[float]]]:
    return [eval((folder / f"rank{rank}.txt").read_text()) for rank in (0, 1)]


@pytest.fixture
def program(tmp_path: Path) -> str:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return str(path)


def test_processes_draw_apart_train_alike_and_resume_as_if_never_stopped(
    tmp_path: Path, program: str
) -> None:
    for name, stop in (("whole", -1), ("part", 3), ("part", -1)):
        (tmp_path / name).mkdir(exist_ok=True)
        launch(program, str(tmp_path / name), str(stop), "1e6")
    (_, left, weights), (_, right, twin) = seen(tmp_path / "whole")
    assert weights == twin
    assert left != right
    assert len(left) == len(right) == 6
    (_, left_after, resumed), (_, right_after, _) = seen(tmp_path / "part")
    assert (left_after, right_after) == (left[3:], right[3:])
    assert resumed == pytest.approx(weights, abs=1e-6)
    assert "generator.1" in load_file(tmp_path / "part" / "state.safetensors")
    assert (tmp_path / "whole" / "losses.csv").read_text().count("\n") == 7


def test_processes_end_a_budget_of_time_with_the_same_step(tmp_path: Path, program: str) -> None:
    (tmp_path / "timed").mkdir()
    launch(program, str(tmp_path / "timed"), "-1", "1.0")
    (count, _, weights), (other, _, twin) = seen(tmp_path / "timed")
    assert count == other > 0
    assert weights == twin
