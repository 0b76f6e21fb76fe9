"""The pools: what is held out stays out, crops keep range and alignment, bad folders are named."""

from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

from autodir.errors import ConfigError, ImageError
from autodir.training.data import (
    HELD_OUT,
    PAIR_FOLDERS,
    PairPool,
    PhotoPool,
    is_held_out,
    load_photo,
)


def save(path: Path, height: int, width: int, value: int | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    array = noise if value is None else np.full_like(noise, value)
    PIL.Image.fromarray(array).save(path)
    return path


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_photo_is_read_as_bytes(tmp_path: Path) -> None:
    path = save(tmp_path / "photo.png", 5, 7)
    with PIL.Image.open(path) as photo:
        expected = torch.from_numpy(np.asarray(photo).copy()).permute(2, 0, 1)
    assert torch.equal(load_photo(path), expected)


def test_gray_photo_gets_three_channels(tmp_path: Path) -> None:
    PIL.Image.new("L", (4, 3), 9).save(tmp_path / "gray.png")
    assert torch.equal(load_photo(tmp_path / "gray.png"), torch.full((3, 3, 4), 9).byte())


@pytest.mark.parametrize("content", [b"", b"no photo", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_unreadable_photo_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.png").write_bytes(content)
    with pytest.raises(ImageError, match=r"broken\.png"):
        PhotoPool(tmp_path)


def test_about_the_held_out_share_is_held_out() -> None:
    held = sum(is_held_out(Path(f"{index}.png")) for index in range(4000))
    assert held / 4000 == pytest.approx(HELD_OUT, abs=0.015)


def test_name_alone_decides_what_is_held_out() -> None:
    names = [f"{index}" for index in range(200)]
    first = [is_held_out(Path("clean") / f"{name}.png") for name in names]
    assert first == [is_held_out(Path("elsewhere") / f"{name}.jpg") for name in names]


def test_training_and_held_out_photos_are_disjoint(tmp_path: Path) -> None:
    paths = {save(tmp_path / "deep" / f"{index}.png", 2, 2) for index in range(60)}
    training, held = PhotoPool(tmp_path), PhotoPool(tmp_path, held_out=True)
    assert set(training.files) | set(held.files) == paths
    assert not set(training.files) & set(held.files)
    assert len(training) > len(held) > 0


def test_handful_of_photos_serves_both_purposes(tmp_path: Path) -> None:
    held = next(str(index) for index in range(999) if is_held_out(Path(f"{index}.png")))
    path = save(tmp_path / f"{held}.png", 4, 4)
    assert PhotoPool(tmp_path).files == PhotoPool(tmp_path, held_out=True).files == [path]
    (tmp_path / path).rename(tmp_path / "a.png")
    assert PhotoPool(tmp_path, held_out=True).files == [tmp_path / "a.png"]


def test_limit_takes_the_first_photos(photo_folder: Path) -> None:
    assert [path.stem for path in PhotoPool(photo_folder, limit=2).files] == ["a", "b"]


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        PhotoPool(tmp_path / "nowhere")


def test_folder_without_photos_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no photo")
    with pytest.raises(ConfigError, match="no photos"):
        PhotoPool(tmp_path)


@pytest.mark.parametrize("size", [16, 60, 100])
def test_crops_have_the_size_and_range_asked_for(photo_folder: Path, size: int) -> None:
    crops = PhotoPool(photo_folder).crops(6, size, random())
    assert crops.shape == (6, 3, size, size)
    assert 0 <= float(crops.min()) < float(crops.max()) <= 1


def test_crops_depend_on_the_generator_alone(photo_folder: Path) -> None:
    pool = PhotoPool(photo_folder)
    assert torch.equal(pool.crops(4, 16, random(3)), pool.crops(4, 16, random(3)))
    assert not torch.equal(pool.crops(4, 16, random(3)), pool.crops(4, 16, random(4)))


def test_crops_at_scale_one_are_samples_of_the_file(tmp_path: Path) -> None:
    photo = load_photo(save(tmp_path / "a.png", 20, 30)).float() / 255
    crop = PhotoPool(tmp_path).crops(1, 8, random(), scale=(1.0, 1.0))[0]
    values = {tuple(v) for v in photo.flatten(1).T.tolist()}
    assert {tuple(v) for v in crop.flatten(1).T.tolist()} <= values


def test_strip_is_enlarged_to_the_crop(tmp_path: Path) -> None:
    save(tmp_path / "a.png", 3, 90)
    assert PhotoPool(tmp_path).crops(2, 32, random()).shape == (2, 3, 32, 32)


def test_pairs_are_found_by_folder(tmp_path: Path) -> None:
    for folder in ("lowlight", "sr_real", "other"):
        save(tmp_path / folder / "input" / "a.png", 20, 20)
        save(tmp_path / folder / "target" / "a.png", 20, 20)
    assert set(PairPool(tmp_path).keys) == {PAIR_FOLDERS["lowlight"], PAIR_FOLDERS["sr_real"]}


def test_no_folder_means_no_pairs(tmp_path: Path) -> None:
    assert PairPool(None).keys == ()
    assert PairPool(tmp_path / "nowhere").keys == ()


def test_pair_without_target_or_of_two_sizes_is_passed_over(tmp_path: Path) -> None:
    save(tmp_path / "rain" / "input" / "alone.png", 20, 20)
    save(tmp_path / "rain" / "input" / "b.png", 20, 20)
    save(tmp_path / "rain" / "target" / "b.png", 20, 24)
    assert PairPool(tmp_path).keys == ()


@pytest.mark.parametrize("side", [20, 60])
def test_both_sides_of_a_pair_are_cropped_alike(tmp_path: Path, side: int) -> None:
    noise = np.random.default_rng(0).integers(0, 200, (side, side + 9, 3), dtype=np.uint8)
    for role, array in (("input", noise), ("target", noise + 40)):
        (tmp_path / "noise" / role).mkdir(parents=True)
        PIL.Image.fromarray(array).save(tmp_path / "noise" / role / "a.png")
    degraded, target = PairPool(tmp_path).crops(["noise"] * 5, 32, random())
    assert degraded.shape == target.shape == (5, 3, 32, 32)
    assert float((target - degraded - 40 / 255).abs().median()) < 1e-6
    assert not torch.equal(degraded[0], degraded[1])


def test_a_pair_that_is_a_little_too_small_is_mirrored_and_keeps_its_grain(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 200, (30, 40, 3), dtype=np.uint8)
    for role in ("input", "target"):
        (tmp_path / "noise" / role).mkdir(parents=True)
        PIL.Image.fromarray(noise).save(tmp_path / "noise" / role / "a.png")
    degraded = PairPool(tmp_path).crops(["noise"], 48, random())[0]
    values = {tuple(v) for v in (torch.from_numpy(noise) / 255.0).flatten(0, 1).tolist()}
    assert {tuple(v) for v in degraded[0].flatten(1).T.tolist()} <= values


def test_enlarged_pair_is_rounded_and_not_cut_off(tmp_path: Path) -> None:
    for role, value in (("input", 100), ("target", 101)):
        path = save(tmp_path / "noise" / role / "a.png", 7, 7, value)
        assert path.exists()
    degraded, target = PairPool(tmp_path).crops(["noise"], 32, random())
    torch.testing.assert_close(degraded, torch.full_like(degraded, 100 / 255))
    torch.testing.assert_close(target, torch.full_like(target, 101 / 255))


def test_held_out_pairs_are_others(tmp_path: Path) -> None:
    for index in range(60):
        for role in ("input", "target"):
            save(tmp_path / "blur" / role / f"{index}.png", 2, 2)
    counts = [len(PairPool(tmp_path, held_out=held).pairs["blur"]) for held in (False, True)]
    assert sum(counts) == 60
    assert counts[0] > counts[1] > 0
