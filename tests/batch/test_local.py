"""Which files are read, and where results go."""

import os
from pathlib import Path

import pytest

from autodir.batch.local import (
    Source,
    check_distinct,
    expand_inputs,
    needs_diagnosis,
    plan_output,
    settle_output,
)
from autodir.errors import ConfigError, ImageError


@pytest.fixture
def photos(tmp_path, monkeypatch) -> Path:
    """A folder of photos, results and other files; the current folder is its parent."""
    folder = tmp_path / "photos"
    for name in (
        "b.jpg", "a.PNG", "a.restored.png", "c.restored-2.jpg", "notes.txt", ".hidden.jpg",
        ".autodir-1.tmp", "sub/d.webp", "sub/deep/e.tif", ".trash/f.jpg",
    ):  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    return folder


def found(*inputs: str | Path, **options) -> list[str]:
    return [str(source.path) for source in expand_inputs(inputs, **options)]


# --- inputs ---------------------------------------------------------------------------------------


def test_a_folder_gives_its_photos_by_name(photos):
    assert found("photos") == ["photos/a.PNG", "photos/b.jpg"]


def test_a_folder_is_searched_deeper_when_told(photos):
    assert found("photos", recursive=True) == [
        "photos/a.PNG",
        "photos/b.jpg",
        "photos/sub/d.webp",
        "photos/sub/deep/e.tif",
    ]


def test_a_folder_of_results_inside_is_no_input(photos):
    assert found("photos", recursive=True, exclude=Path("photos/sub/deep")) == [
        "photos/a.PNG",
        "photos/b.jpg",
        "photos/sub/d.webp",
    ]


@pytest.mark.parametrize("exclude", ["photos", "."])
def test_a_folder_that_is_named_is_read_even_if_the_results_go_there(photos, exclude):
    assert found("photos", exclude=Path(exclude)) == ["photos/a.PNG", "photos/b.jpg"]
    assert found("photos/*.jpg", exclude=Path(exclude)) == ["photos/b.jpg"]


def test_circles_of_links_end_and_every_photo_is_found_once(photos):
    (photos / "sub" / "deep" / "up").symlink_to(photos)
    (photos / "self").symlink_to(photos / "self")
    (photos / "sub" / "round").symlink_to(photos / "sub")
    (photos / "apart").symlink_to(photos.parent / "elsewhere")
    elsewhere = photos.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "g.jpg").write_bytes(b"x")
    (elsewhere / "back").symlink_to(photos)
    assert found("photos", recursive=True) == [
        "photos/a.PNG",
        "photos/apart/g.jpg",
        "photos/b.jpg",
        "photos/sub/d.webp",
        "photos/sub/deep/e.tif",
    ]
    assert found("photos") == ["photos/a.PNG", "photos/b.jpg"]


def test_a_folder_that_is_a_link_is_searched(photos):
    (photos.parent / "link").symlink_to(photos)
    assert found("link") == ["link/a.PNG", "link/b.jpg"]


def test_a_link_to_nothing_and_a_folder_that_cannot_be_listed_are_not_passed_over(
    photos, monkeypatch
):
    (photos / "gone.jpg").symlink_to(photos / "nothing.jpg")
    (photos / "circle.jpg").symlink_to(photos / "circle.jpg")
    iterdir = Path.iterdir

    def fail(self):
        if self.name == "deep":
            raise PermissionError(13, "Permission denied")
        return iterdir(self)

    monkeypatch.setattr(Path, "iterdir", fail)
    assert found("photos", recursive=True) == [
        "photos/a.PNG",
        "photos/b.jpg",
        "photos/circle.jpg",
        "photos/gone.jpg",
        "photos/sub/d.webp",
        "photos/sub/deep",
    ]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_a_pipe_in_a_folder_is_no_photo(photos):
    os.mkfifo(photos / "pipe.jpg")
    assert found("photos") == ["photos/a.PNG", "photos/b.jpg"]


def test_a_named_file_is_taken_whatever_it_is(photos):
    names = ["photos/notes.txt", "photos/a.restored.png", "photos/.hidden.jpg", "none.jpg"]
    assert found(*names) == names


def test_a_glob_gives_the_photos_it_matches(photos):
    assert found("photos/*") == ["photos/a.PNG", "photos/b.jpg", "photos/sub/d.webp"]
    assert found("photos/*.jpg") == ["photos/b.jpg"]
    assert found(str(photos / "[ab].*")) == [str(photos / "a.PNG"), str(photos / "b.jpg")]
    assert found("photos/**/*.tif") == ["photos/sub/deep/e.tif"]
    assert found("photos/s*") == ["photos/sub/d.webp"]


def test_a_glob_leaves_out_hidden_folders_and_the_results(photos):
    assert found("photos/**/*.jpg") == ["photos/b.jpg"]
    assert found("photos/*", exclude=Path("photos/sub")) == ["photos/a.PNG", "photos/b.jpg"]


def test_a_glob_that_asks_for_results_gets_them(photos):
    assert found("photos/*.restored*") == ["photos/a.restored.png", "photos/c.restored-2.jpg"]


def test_a_file_whose_name_looks_like_a_glob_is_a_file(photos):
    (photos / "x[1].jpg").write_bytes(b"x")
    assert found("photos/x[1].jpg") == ["photos/x[1].jpg"]


def test_a_photo_named_twice_is_taken_once_where_it_was_first_named(photos):
    assert found("photos/b.jpg", "photos", str(photos / "b.jpg")) == [
        "photos/b.jpg",
        "photos/a.PNG",
    ]


@pytest.mark.parametrize("name", ["empty", "photos/*.gif", "nowhere/*.jpg", "photos/not?s.txt"])
def test_nothing_found_is_a_config_error(photos, name):
    Path("empty").mkdir()
    with pytest.raises(ConfigError) as caught:
        expand_inputs([name])
    assert name in caught.value.message


def test_the_hint_for_an_empty_folder_names_recursive(photos):
    (photos / "outer").mkdir()
    with pytest.raises(ConfigError) as caught:
        expand_inputs([photos / "outer"])
    assert "--recursive" in caught.value.hint
    with pytest.raises(ConfigError) as caught:
        expand_inputs([photos / "outer"], recursive=True)
    assert caught.value.hint == ""


def test_no_input_is_a_config_error():
    with pytest.raises(ConfigError):
        expand_inputs([])


def test_a_folder_that_cannot_be_listed_is_an_image_error(photos, monkeypatch):
    def fail(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", fail)
    with pytest.raises(ImageError, match="Permission denied"):
        expand_inputs([photos])


# --- outputs --------------------------------------------------------------------------------------

ONE = Source(path=Path("in/photo.jpg"))
OF_FOLDER = Source(path=Path("in/sub/photo.jpg"), folder=Path("in"))


def test_a_result_is_beside_its_photo_by_default():
    assert plan_output(ONE, None) == Path("in/photo.restored.jpg")
    assert plan_output(Source(path=Path("in/scan")), None) == Path("in/scan.restored")


def test_a_file_is_named_for_one_photo(tmp_path):
    assert plan_output(ONE, str(tmp_path / "out.png")) == tmp_path / "out.png"


@pytest.mark.parametrize("output", ["out", "out/", "out.v2/"])
def test_a_folder_takes_the_name_of_the_photo(output):
    assert plan_output(ONE, output) == Path(output) / "photo.jpg"


def test_a_folder_that_exists_is_one_whatever_its_name(tmp_path):
    (tmp_path / "out.png").mkdir()
    assert plan_output(ONE, str(tmp_path / "out.png")) == tmp_path / "out.png" / "photo.jpg"


def test_a_folder_is_mirrored():
    assert plan_output(OF_FOLDER, "out", several=True) == Path("out/sub/photo.jpg")


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("out/{stem}.fixed{ext}", "out/photo.fixed.jpg"),
        ("{stem}.fixed.{ext}", "photo.fixed.jpg"),
        ("{degradations}/{stem}.png", "rain+noise/photo.png"),
        ("{stem}_{degradations}{ext}", "photo_rain+noise.jpg"),
    ],
)
def test_a_template_is_filled(template, expected):
    assert plan_output(ONE, template, ["rain", "noise"]) == Path(expected)


def test_a_template_says_clean_where_nothing_was_found():
    assert plan_output(ONE, "{stem}-{degradations}{ext}") == Path("photo-clean.jpg")


def test_a_template_mirrors_folders_too():
    assert plan_output(OF_FOLDER, "out/{stem}{ext}") == Path("out/sub/photo.jpg")


@pytest.mark.parametrize("output", ["{name}.jpg", "{}.jpg", "{stem}", "{stem}.txt", "out.xyz"])
def test_an_output_that_cannot_be_written_is_refused_before_any_work(output):
    with pytest.raises(ConfigError):
        plan_output(ONE, output)


def test_one_file_for_several_photos_is_refused():
    with pytest.raises(ConfigError, match="several"):
        plan_output(ONE, "out.jpg", several=True)
    with pytest.raises(ConfigError, match="several"):
        plan_output(OF_FOLDER, "out.jpg")


@pytest.mark.parametrize(
    ("output", "expected"),
    [(None, False), ("out", False), ("{stem}{ext}", False), ("{degradations}{ext}", True)],
)
def test_only_a_template_with_degradations_waits_for_the_diagnosis(output, expected):
    assert needs_diagnosis(output) is expected


def test_two_results_of_one_name_are_refused():
    check_distinct([Path("a.jpg"), Path("b.jpg")])
    with pytest.raises(ConfigError, match=r"a\.jpg"):
        check_distinct([Path("a.jpg"), Path("b.jpg"), Path("a.jpg").absolute()])


# --- names that are taken -------------------------------------------------------------------------


@pytest.fixture
def taken(photos) -> tuple[Path, Source]:
    """A result that exists, and its photo."""
    return photos / "a.restored.png", Source(path=photos / "a.PNG")


def test_a_free_name_is_taken_as_it_is(taken):
    target, source = taken
    assert settle_output(target.with_name("new.png"), source) == target.with_name("new.png")


def test_a_taken_name_is_an_error_unless_an_option_says_more(taken):
    target, source = taken
    with pytest.raises(ImageError, match="exists") as caught:
        settle_output(target, source)
    assert "--overwrite" in caught.value.hint
    assert settle_output(target, source, overwrite=True) == target
    assert settle_output(target, source, skip_existing=True) is None


def test_a_new_name_is_counted_up(taken):
    target, source = taken
    second = target.with_name("a.restored-2.png")
    assert settle_output(target, source, rename=True) == second
    second.write_bytes(b"x")
    third = settle_output(target, source, rename=True)
    assert third == target.with_name("a.restored-3.png")


def test_the_photo_itself_is_replaced_only_where_it_is_named_and_overwrite_is_set(photos):
    path = photos / "b.jpg"
    source = Source(path=path)
    with pytest.raises(ImageError, match="the photo itself"):
        settle_output(path, source, output=str(path))
    with pytest.raises(ImageError, match="the photo itself"):
        settle_output(path, source, output=str(photos), overwrite=True)
    with pytest.raises(ImageError, match="the photo itself"):
        settle_output(path, source, output="photos/{stem}{ext}", overwrite=True)
    assert settle_output(path, source, output=str(path), overwrite=True) == path
    assert settle_output(path, source, output=str(path), rename=True) == photos / "b-2.jpg"


def test_a_link_to_the_photo_counts_as_the_photo(photos):
    link = photos / "link.jpg"
    link.symlink_to(photos / "b.jpg")
    with pytest.raises(ImageError, match="the photo itself"):
        settle_output(link, Source(path=photos / "b.jpg"), overwrite=True)


def test_a_broken_link_is_a_taken_name(photos):
    link = photos / "link.jpg"
    link.symlink_to(photos / "nothing.jpg")
    with pytest.raises(ImageError, match="exists"):
        settle_output(link, Source(path=photos / "b.jpg"))


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (None, "photos/IMG.restored.tif"),
        ("out/", "out/IMG.tif"),
        ("{stem}-fixed{ext}", "IMG-fixed.tif"),
        ("fixed.png", "fixed.png"),
    ],
)
def test_the_result_of_a_raw_file_is_a_tiff(output, expected):
    source = Source(path=Path("photos/IMG.CR3"))
    assert plan_output(source, output) == Path(expected)
    with pytest.raises(ConfigError, match="no image format"):
        plan_output(source, "fixed.cr3")
