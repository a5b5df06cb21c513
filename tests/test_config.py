import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emotion_jax import config
from emotion_jax.config import Config
from emotion_jax.errors import UserError

DEFAULT = Config()
NAMES = sorted(config.flatten(DEFAULT))
# What TOML can say: any character but surrogates; of folders also not NUL. A tilde is expanded.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
FOLDER = st.none() | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30
).filter(lambda text: not text.startswith("~")).map(Path)


def number(low, high, **more):
    return st.floats(low, high, allow_nan=False, **more)


AUGMENT = st.fixed_dictionaries(
    {},
    optional={
        "rotation": number(0, 180),
        "shift": number(0, 1),
        "shear": number(0, 90, exclude_max=True),
        "flip": st.booleans(),
        "erase_area": st.tuples(number(0, 0.5, exclude_min=True), number(0.5, 1)),
    },
)
VALUES = st.fixed_dictionaries(
    {
        "data": st.fixed_dictionaries(
            {"augment": AUGMENT},
            optional={
                "dir": FOLDER,
                "stage_to": FOLDER,
                "pipeline": st.sampled_from(["tfdata", "resident"]),
                "channels": st.sampled_from([1, 3]),
                "image_size": st.integers(8, 1024),
                "memory_limit": number(0, 1e300, exclude_min=True),
                "split_seed": st.integers(0, 2**80),
            },
        ),
        "model": st.fixed_dictionaries(
            {},
            optional={
                "name": TEXT,
                "widths": st.lists(st.integers(1, 2**40), min_size=1).map(tuple),
                "dense": st.lists(st.integers(1, 9), max_size=3).map(tuple),
            },
        ),
        "training": st.fixed_dictionaries(
            {},
            optional={
                "learning_rate": number(0, 1e300, exclude_min=True),
                "seed": st.integers(0, 2**32 - 1),
                "optimizer": TEXT,
            },
        ),
    }
)


def changes(parsed, default=DEFAULT):
    """The settings that differ, by dotted name."""
    before, after = config.flatten(default), config.flatten(parsed)
    return {name: value for name, value in after.items() if value != before[name]}


def from_toml(text):
    return config.from_mapping(tomllib.loads(text), "run.toml")


# TOML


@settings(max_examples=100)
@given(VALUES)
def test_dumps_is_read_back_equal(values):
    made = config.from_mapping(values, "x")
    again = from_toml(config.dumps(made))
    assert again == made
    assert config.flatten(again) == config.flatten(made)
    for section, part in values.items():
        for name, value in part.items():
            if name != "augment":
                assert getattr(getattr(again, section), name) == value


def test_load_reads_a_file_and_keeps_the_defaults(tmp_path):
    path = tmp_path / "é.toml"
    for mark in (b"", b"\xef\xbb\xbf"):  # as Windows' editors write it
        path.write_bytes(mark + '[data]\ndir = "Gesichter/ü"\n[training]\nepochs = 3\n'.encode())
        assert changes(config.load(path)) == {"data.dir": "Gesichter/ü", "training.epochs": 3}
    path.write_text(config.dumps(DEFAULT))
    assert config.load(path) == DEFAULT
    path.write_text("")
    assert config.load(path) == DEFAULT


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "Cannot read the config {}: No such file or directory."),
        (b"[training", "The config {} is not valid TOML: Expected ']'"),
        (b"a = 1\na = 2\n", "The config {} is not valid TOML: "),
        (b"a = '\xff'", "The config {} is not valid TOML: 'utf-8' codec"),
        (b"[training]\nepochs = '3'", "{}: training.epochs: "),
    ],
)
def test_a_bad_file_is_named(tmp_path, content, sentence):
    path = tmp_path / "run.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        config.load(path)
    assert str(caught.value).startswith(sentence.format(path))
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


def test_a_folder_is_no_config(tmp_path):
    with pytest.raises(UserError, match=rf"^Cannot read the config {tmp_path}: Is a directory\.$"):
        config.load(tmp_path)


@pytest.mark.parametrize(
    ("toml", "where"),
    [
        ("epochs = 3", "epochs"),
        ("[trainin]\nepochs = 3", "trainin"),
        ("'training.epochs' = 3", "training.epochs"),
        ("[training]\nepoch = 3", "training.epoch"),
        ("[data.augment]\nflipped = true", "data.augment.flipped"),
    ],
)
def test_an_unknown_key_is_named(toml, where):
    with pytest.raises(UserError, match=rf"^run\.toml: {where}: there is no such setting\.$"):
        from_toml(toml)


@pytest.mark.parametrize(
    "setting",
    [
        "training.epochs = '3'",
        "training.epochs = 3.0",
        "training.epochs = true",
        "training.learning_rate = '1e-3'",
        "training.learning_rate = true",
        "training.learning_rate = 07:32:00",
        "data.channels = '1'",
        "data.dir = 3",
        "data.dir = 1979-05-27",
        "data.dir = ['a']",
        "data.dir = {a = 1}",
        "data.augment = 3",
        "data.augment = []",
        "data.augment.flip = 1",
        "data.augment.flip = 'true'",
        "data.augment.erase_area = 'ab'",
        "model.name = 3",
        "model.name = 1979-05-27T07:32:00Z",
        "model.widths = 4",
        "model.widths = '4'",
        "training = 3",
    ],
)
def test_another_type_is_refused_and_nothing_is_coerced(setting):
    name = setting.split(" ")[0]
    with pytest.raises(UserError, match=rf"^run\.toml: {name}: Input should be .* \(got .*\)\.$"):
        from_toml(setting)


def test_an_integer_may_stand_for_a_number():
    assert from_toml("data.augment.rotation = 5").data.augment.rotation == 5.0


@pytest.mark.parametrize(
    ("setting", "where"),
    [
        ("training.epochs = 0", "training.epochs"),
        ("training.seed = 4294967296", "training.seed"),
        ("training.seed = -1", "training.seed"),
        ("training.learning_rate = 0.0", "training.learning_rate"),
        ("training.learning_rate = nan", "training.learning_rate"),
        ("training.learning_rate = inf", "training.learning_rate"),
        ("training.class_weights = 'Balanced'", "training.class_weights"),
        ("data.channels = 2", "data.channels"),
        ("data.image_size = 7", "data.image_size"),
        ("data.validation_fraction = 0.0", "data.validation_fraction"),
        ("data.validation_fraction = 1.0", "data.validation_fraction"),
        ('data.dir = "a\\u0000b"', "data.dir"),
        ("data.augment.rotation = 180.1", "data.augment.rotation"),
        ("data.augment.zoom = 1.0", "data.augment.zoom"),
        ("data.augment.erase = 1.5", "data.augment.erase"),
        ("data.augment.erase_area = [0.1]", "data.augment.erase_area.1"),
        ("data.augment.erase_area = [0.1, 0.2, 0.3]", "data.augment.erase_area"),
        ("data.augment.erase_area = [0.3, 0.2]", "data.augment.erase_area"),
        ("data.augment.erase_area = [0.0, 0.2]", "data.augment.erase_area"),
        ("data.augment.erase_area = [0.1, 1.1]", "data.augment.erase_area"),
        ("model.widths = []", "model.widths"),
        ("model.widths = [4, 0]", "model.widths.1"),
        ("model.dropout = 1.0", "model.dropout"),
    ],
)
def test_out_of_range_is_refused(setting, where):
    with pytest.raises(UserError, match=rf"^run\.toml: {where}: [^\n]* \(got [^\n]*\)\.$"):
        from_toml(setting)


def test_the_first_of_several_faults_is_one_sentence():
    with pytest.raises(UserError, match=r"^run\.toml: data\.image_size: [^\n]*\(got 0\)\.$"):
        from_toml("data.image_size = 0\ntraining.epochs = 0\nx = 1")


def test_settings_are_frozen():
    with pytest.raises(Exception, match="frozen"):
        DEFAULT.training.epochs = 3


# Command line


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ("", {}),
        ("--training.epochs 3", {"training.epochs": 3}),
        ("--training.epochs=3", {"training.epochs": 3}),
        ("--training.batch-size 7", {"training.batch_size": 7}),
        ("--training.epochs 3 --training.epochs 4", {"training.epochs": 4}),
        ("--training.learning_rate 1e-2", {"training.learning_rate": 0.01}),
        ("--data.augment.flip True", {"data.augment.flip": True}),
        ("--logging.progress False", {"logging.progress": False}),
        ("--data.channels 3 --data.pipeline resident",
         {"data.channels": 3, "data.pipeline": "resident"}),
        ("--model.widths 4 8 --training.epochs 3",
         {"model.widths": [4, 8], "training.epochs": 3}),
        ("--model.dense", {"model.dense": []}),
        ("--data.augment.erase_area 0.1 0.3", {"data.augment.erase_area": [0.1, 0.3]}),
        ("--data.augment.rotation 5", {"data.augment.rotation": 5.0}),
        ("--data.dir a/ü", {"data.dir": "a/ü"}),
    ],
)  # fmt: skip
def test_overrides_change_what_they_name_and_nothing_else(argv, expected):
    parsed = config.parse(argv.split(), DEFAULT)
    assert changes(parsed) == expected
    assert from_toml(config.dumps(parsed)) == parsed


def test_a_tilde_is_the_users_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    made = from_toml('data.dir = "~/faces"\ntraining.backup_to = "~"')
    assert (made.data.dir, made.training.backup_to) == (tmp_path / "faces", tmp_path)
    assert config.parse(["--data.dir", "~/faces", "--training.backup_to", "~"], DEFAULT) == made
    assert from_toml(config.dumps(made)) == made
    unknown = "~no such user/faces"
    assert config.parse(["--data.votes", unknown], DEFAULT).data.votes == Path(unknown)
    monkeypatch.setenv("HOME", "/caf\udce9")
    with pytest.raises(UserError, match="a name that is not valid UTF-8"):
        from_toml('data.dir = "~"')


def test_none_takes_back_what_the_file_says():
    default = from_toml("[data]\ndir = 'faces'\nimage_size = 12")
    assert changes(config.parse(["--data.dir", "None"], default), default) == {"data.dir": None}
    assert config.parse([], default) == default


TYPOS = [
    (["--training.epoch", "3"], "Unrecognized options: --training.epoch, 3"),
    (["--epochs", "3"], "Unrecognized options: --epochs, 3"),
    (["--no-data.augment.flip"], "Unrecognized options: --no-data.augment.flip"),
    (["surplus"], "Unrecognized options: surplus"),
    (["--training.epochs"], "--training.epochs"),
    (["--training.epochs", "many"], "Error parsing --training.epochs: invalid literal"),
    (["--training.epochs", "2.0"], "Error parsing --training.epochs: invalid literal"),
    (["--training.epochs", "---"], "--training.epochs"),
    (["--training.learning_rate", "│x"], "Error parsing --training.learning_rate: could not conv"),
    (["--training.epochs", "0"], "--training.epochs: Input should be greater than or equal to 1"),
    (["--training.seed", "-1"], "--training.seed: Input should be greater than or equal to 0"),
    (["--logging.every_steps", "0"], "--logging.every_steps: Input should be greater"),
    (["--data.channels", "2"], "invalid choice '2' for argument '--data.channels'"),
    (["--data.augment.flip", "yes"], "invalid choice 'yes' for argument '--data.augment.flip'"),
    (["--data.augment.flip"], "Missing value for argument '--data.augment.flip'"),
    (["--data.augment.rotation", "nan"], "--data.augment.rotation: Input should be a finite"),
    (["--data.augment.erase_area", "0.5"], "Missing value for argument '--data.augment.erase_area"),
    (["--data.augment.erase_area", "0.5", "0.1"], "--data.augment.erase_area: needs 0 < smallest"),
    (["--model.widths"], "--model.widths: Tuple should have at least 1 item"),
    (["--model.widths", "4", "0"], "--model.widths.1: Input should be greater than or equal to 1"),
    (["--model.widths", "4", "x"], "Error parsing --model.widths: "),
    (["--data.dir", "caf\udce9"], "--data.dir: a name that is not valid UTF-8"),
    (["--data.stage_to", "a\0b"], "--data.stage_to: a name that is not valid UTF-8"),
    (["--data.votes", "~a\0b"], "--data.votes: a name that is not valid UTF-8"),
]  # fmt: skip


@pytest.mark.parametrize("look", ["plain", "narrow", "terminal"])
@pytest.mark.parametrize(("argv", "start"), TYPOS, ids=lambda value: ascii(value)[:40])
def test_a_typo_is_one_sentence_that_begins_with_what_is_wrong(argv, start, look, monkeypatch):
    if look == "narrow":
        monkeypatch.setenv("COLUMNS", "40")
    elif look == "terminal":
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    with pytest.raises(UserError) as caught:
        config.parse(argv, DEFAULT, "train.py", "Train.")
    sentence = str(caught.value)
    assert start in sentence
    assert sentence.endswith(". See --help.")
    assert len(sentence) < 150
    assert not set(sentence) & set("\n\x1b╭─╯"), sentence


PROGRAM = """
import sys
from emotion_jax import config
from emotion_jax.errors import UserError

for argv in eval(sys.argv[1]):
    try:
        print(ascii(config.parse(argv, config.Config(), "train.py")))
    except UserError as error:
        print(ascii(str(error)))
"""


@pytest.mark.skipif(os.name != "posix", reason="POSIX locales")
def test_an_ascii_output_gives_the_same_sentences():
    argvs = ascii([argv for argv, _ in TYPOS])
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    said = []
    for change in ({"PYTHONIOENCODING": "utf-8"}, {"PYTHONIOENCODING": "ascii"}):
        command = [sys.executable, "-c", PROGRAM, argvs]
        done = subprocess.run(
            command, env=environment | change, capture_output=True, text=True, check=True
        )
        said.append(done.stdout.splitlines())
    assert said[0] == said[1]
    assert len(said[0]) == len(TYPOS)
    for sentence, (_, start) in zip(said[1], TYPOS, strict=True):
        assert ascii(start)[1:-1].replace("\\'", "'") in sentence.replace("\\'", "'")


def test_help_names_every_setting_and_says_what_it_is(capsys):
    with pytest.raises(SystemExit) as stop:
        config.parse(["--help"], DEFAULT, "train.py", "Train on faces.")
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert "Train on faces." in shown
    assert all(f"--{name} " in shown for name in NAMES)
    assert "Side of the square" in shown


# The rest


def test_flatten_is_plain_values_by_dotted_name():
    made = from_toml("data.dir = 'a'\nmodel.widths = [4, 8]\ndata.augment.flip = true")
    flat = config.flatten(made)
    assert list(flat) == list(config.flatten(DEFAULT))
    assert flat["data.dir"] == "a"
    assert flat["data.stage_to"] is None
    assert flat["model.widths"] == [4, 8]
    assert flat["data.augment.flip"] is True
    assert flat["training.batch_size"] == 64
    assert not any(isinstance(value, dict) for value in flat.values())


def test_every_section_is_known_to_the_sentences():
    prefixes = {name.rpartition(".")[0] + "." for name in NAMES}
    assert set(config._SECTIONS.values()) == prefixes


def test_a_cache_whose_name_is_not_utf8(tmp_path, monkeypatch):
    monkeypatch.setenv("EMOTION_JAX_CACHE", str(tmp_path / "caf\udce9"))
    with pytest.raises(UserError, match=r"^EMOTION_JAX_CACHE: .*not valid UTF-8; choose another"):
        config.cache_dir()


def test_the_cache_is_where_the_environment_says(cache, tmp_path, monkeypatch):
    assert config.cache_dir() == cache
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("EMOTION_JAX_CACHE", "~/own")
    assert config.cache_dir() == tmp_path / "own"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    for unset in (lambda: monkeypatch.setenv("EMOTION_JAX_CACHE", ""),
                  lambda: monkeypatch.delenv("EMOTION_JAX_CACHE")):  # fmt: skip
        unset()
        assert config.cache_dir().name == "emotion_jax"
        assert config.cache_dir().is_relative_to(tmp_path)
