import pytest

from autodir.errors import ConfigError
from autodir.evaluation import plan
from autodir.evaluation.plan import load_suite, suites_dir

HEAD = 'schema = 1\nsystems = ["input"]\n'


def load(tmp_path, text):
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return load_suite(path)


def names():
    return sorted(path.stem for path in suites_dir().glob("*.toml"))


@pytest.mark.parametrize("name", names())
def test_every_suite_of_the_project_is_well_formed(name):
    suite = load_suite(name)
    assert suite.name == name
    assert suite.sets
    assert suite.kind == "recognition" or "input" in suite.systems


def test_levels_and_chains_become_sets(tmp_path):
    suite = load(
        tmp_path,
        HEAD + '[[set]]\nname = ""\nfolders = ["CBSD68"]\nrecipe = "synthetic"\n'
        'chains = [["rain"], ["haze", "noise"]]\nlevels = ["mild", "severe"]\n',
    )
    assert [spec.name for spec in suite.sets] == [
        "rain mild",
        "rain severe",
        "haze + noise mild",
        "haze + noise severe",
    ]
    assert [spec.level for spec in suite.sets] == [0.15, 0.85, 0.15, 0.85]


def test_mixed_chains_stay_together(tmp_path):
    suite = load(
        tmp_path,
        HEAD + '[[set]]\nname = "two,"\nfolders = ["CBSD68"]\nrecipe = "synthetic"\nmixed = true\n'
        'chains = [["rain", "haze"], ["haze", "noise"]]\nlevels = ["mild"]\n',
    )
    (spec,) = suite.sets
    assert spec.name == "two, mild"
    assert len(spec.chains) == 2


def test_goal_may_depend_on_the_level(tmp_path):
    suite = load(
        tmp_path,
        HEAD + '[[set]]\nfolders = ["CBSD68"]\nrecipe = "gaussian"\nlevels = [15, 25]\n'
        "goal_psnr = { 15 = 33.0 }\n",
    )
    assert [spec.goal_psnr for spec in suite.sets] == [33.0, None]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("schema = 2\n", "schema"),
        (HEAD, "needs sets"),
        (HEAD + "colour = 1\n", "colour"),
        (HEAD + 'kind = "racing"\n', "racing"),
        ('schema = 1\nsystems = ["magic"]\n[[set]]\nfolders = ["CBSD68"]\n', "magic"),
        (HEAD + "[[set]]\nfolders = []\n", "without folders"),
        (HEAD + '[[set]]\nfolder = ["CBSD68"]\n', "folder"),
        (HEAD + '[[set]]\nfolders = ["CBSD68"]\n' * 2, "different names"),
        (
            HEAD + '[[set]]\nfolders = ["CBSD68"]\nrecipe = "synthetic"\nchains = [["rain"]]\n'
            'levels = ["light"]\n',
            "severity",
        ),
        (HEAD + '[[set]]\nfolders = ["CBSD68"]\nrecipe = "jpeg"\nlevels = ["x"]\n', "no number"),
    ],
)
def test_malformed_suite_is_a_config_error(tmp_path, text, match):
    with pytest.raises(ConfigError, match=match):
        load(tmp_path, text)


def test_unknown_suite_names_the_nearest():
    with pytest.raises(ConfigError) as raised:
        load_suite("pared")
    assert "paired" in raised.value.hint


def test_missing_suite_file_is_a_config_error(tmp_path):
    with pytest.raises(ConfigError, match="no suite file"):
        load_suite(tmp_path / "none.toml")


def test_packed_suites_come_first(tmp_path, monkeypatch):
    (tmp_path / "suites").mkdir()
    monkeypatch.setattr(plan, "prompts_dir", lambda: tmp_path / "prompts")
    assert suites_dir() == tmp_path / "suites"


def test_digest_changes_with_the_file(tmp_path):
    text = HEAD + '[[set]]\nfolders = ["CBSD68"]\n'
    assert load(tmp_path, text).digest != load(tmp_path, text + "# more\n").digest
