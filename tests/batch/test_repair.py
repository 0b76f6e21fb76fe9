"""One photo from its file to the content of its result, here and in other processes."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import PIL.Image
import pytest
import torch

from autodir.batch.repair import (
    Repairer,
    open_repairers,
    open_restorer,
    repair,
    repaired,
    share_threads,
)
from autodir.config import OutputOptions, RestoreOptions, RuntimeOptions
from autodir.errors import ConfigError, DeviceError, ImageError, PromptError
from autodir.imaging.io import read

ONE_ROUND = RestoreOptions(max_steps=1, guard=False)


@pytest.fixture
def runtime(tiny_model_folder: Path) -> RuntimeOptions:
    return RuntimeOptions(model=str(tiny_model_folder), device="cpu", threads=1)


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    paths = []
    for number in range(3):
        generator = torch.Generator().manual_seed(number)
        samples = torch.randint(0, 255, (24, 32, 3), generator=generator, dtype=torch.uint8)
        paths.append(tmp_path / f"{number}.png")
        PIL.Image.fromarray(samples.numpy()).save(paths[-1])
    return paths


def test_a_photo_is_encoded_in_the_format_of_its_result(
    runtime: RuntimeOptions, photos: list[Path]
) -> None:
    restorer, photo = open_restorer(runtime, ONE_ROUND), read(photos[0])
    png = repair(restorer, photo, ONE_ROUND, Path("a.png")).render()
    jpeg = repair(restorer, photo, ONE_ROUND, Path("a.jpg")).render()
    assert png is not None
    assert jpeg is not None
    assert (png[1:4], jpeg[:2]) == (b"PNG", b"\xff\xd8")


@pytest.mark.parametrize("options", [RestoreOptions(max_steps=0), RestoreOptions(strength=0)])
def test_a_photo_that_is_not_changed_is_its_own_result_unless_the_format_changes(
    runtime: RuntimeOptions, photos: list[Path], options: RestoreOptions
) -> None:
    restorer, photo = open_restorer(runtime, options), read(photos[0])
    assert repair(restorer, photo, options, None).render() is None
    assert repair(restorer, photo, options, Path("b.PNG")).render() is None
    assert repair(restorer, photo, options, Path("b")).render() is None
    assert repair(restorer, photo, options, Path("b.webp")).render() is not None
    data = read(photos[0].read_bytes())
    assert repair(restorer, data, options, Path("b.png")).render() is None


def test_rounds_that_were_rolled_back_repaired_nothing() -> None:
    rounds = [("rain", "kept"), ("noise", "rolled back"), ("blur", "blended"), ("rain", "kept")]
    assert repaired(rounds) == ["rain", "blur"]


def test_other_processes_give_the_same_bytes_and_survive_failures(
    runtime: RuntimeOptions, photos: list[Path], tmp_path: Path
) -> None:
    here = open_restorer(runtime, ONE_ROUND)
    bad, target = tmp_path / "bad.png", Path("x.png")
    bad.write_bytes(b"no image")
    with ExitStack() as resources:
        limits = OutputOptions(max_pixels=1000)
        repairers, info = open_repairers(2, runtime, ONE_ROUND, limits, resources)
        assert info == here.info
        for repairer, path in zip([*repairers, repairers[0]], photos, strict=True):
            outcome = repairer.repair(path, target)
            mine = repair(here, read(path), ONE_ROUND, target)
            assert outcome.render() == mine.render()
            assert [step.degradation for step in outcome.report.steps] == [
                step.degradation for step in mine.report.steps
            ]
        with pytest.raises(ImageError, match="not an image"):
            repairers[0].repair(bad, target)
        assert repairers[0].repair(photos[0], target).render() is not None
        process = repairers[1]._child._process
        assert process is not None
        process.kill()
        process.join()
        with pytest.raises(DeviceError, match="SIGKILL") as caught:
            repairers[1].repair(photos[0], target)
        assert "--jobs" in caught.value.hint


def test_what_is_wrong_with_the_options_is_said_when_a_process_is_opened(
    runtime: RuntimeOptions,
) -> None:
    repairer = Repairer(runtime, RestoreOptions(only=("rian",)), OutputOptions())
    with pytest.raises(PromptError):
        repairer.open()
    repairer.close()


def test_processes_share_the_threads_of_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    assert share_threads(RuntimeOptions(device="cpu"), 3) == 2
    assert share_threads(RuntimeOptions(device="cpu"), 20) == 1
    assert share_threads(RuntimeOptions(device="cpu", threads=5), 3) == 5
    with pytest.raises(ConfigError, match="CPU"):
        share_threads(RuntimeOptions(device="cuda"), 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(ConfigError, match="CPU"):
        share_threads(RuntimeOptions(), 2)
