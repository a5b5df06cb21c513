import csv
import json
import shutil

import jax
import numpy as np
import pytest
import sklearn.metrics as sk
from PIL import Image

from emotion_jax.cli import cross_validate
from emotion_jax.training import trained

CLASSES = ["angry", "happy", "sad"]
MISSES = []
jax.monitoring.register_event_listener(
    lambda event, **_: MISSES.append(event) if event.endswith("/cache_misses") else None
)


@pytest.fixture(scope="module")
def tree(tiny_tree, tmp_path_factory):
    """The tiny tree with three of its images once more, and people in the files' names."""
    root = tmp_path_factory.mktemp("people") / "tree"
    shutil.copytree(tiny_tree, root)
    for i, path in enumerate(sorted(root.glob("train/*/*.png"))):
        path.rename(path.with_name(f"P{i % 24}_{path.name}"))
    for path in sorted((root / "train" / "happy").glob("*.png"))[:3]:
        shutil.copy(path, path.with_name(f"{path.stem}_copy.png"))
    return root


@pytest.fixture(scope="module")
def arguments(tree):
    settings = {
        "--data": tree,
        "--data.pipeline": "resident",
        "--data.image_size": 12,
        "--model.widths": 4,
        "--model.dense": 8,
        "--training.epochs": 2,
        "--training.batch_size": 8,
        "--training.schedule": "cosine",
        "--training.class_weights": "balanced",
        "--logging.progress": False,
        "--logging.tensorboard": False,
        "--folds": 3,
        "--groups": r"^(P\d+)_",
    }
    return [str(part) for pair in settings.items() for part in pair]


@pytest.fixture(scope="module")
def finished(arguments, tmp_path_factory):
    """A finished cross-validation, and the programs that each fold had to compile."""
    home = tmp_path_factory.mktemp("runs")
    compiled = []

    with pytest.MonkeyPatch.context() as patch:
        from emotion_jax.evaluation import cross_validation

        run = cross_validation._run

        def counted(*args):
            MISSES.clear()
            result = run(*args)
            compiled.append(len(MISSES))
            return result

        patch.setattr(cross_validation, "_run", counted)
        patch.setenv("EMOTION_JAX_CACHE", str(home / "cache"))
        # An empty cache of compiled programs, not that of the other tests.
        before = jax.config.jax_compilation_cache_dir
        jax.config.update("jax_compilation_cache_dir", str(home / "xla"))
        try:
            cross_validate.main([*arguments, "--workdir", str(home / "cv")])
        finally:
            jax.config.update("jax_compilation_cache_dir", before)
    return home / "cv", compiled


@pytest.fixture
def copy(finished, tmp_path, monkeypatch):
    """To be changed."""
    monkeypatch.setenv("EMOTION_JAX_CACHE", str(finished[0].parent / "cache"))
    shutil.copytree(finished[0], tmp_path / "cv")
    return tmp_path / "cv"


def refused(capsys, *argv):
    """The sentence of a command that exits with 2."""
    with pytest.raises(SystemExit) as stop:
        cross_validate.main([str(part) for part in argv])
    assert stop.value.code == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    return error


def predictions(workdir):
    with (workdir / "predictions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_one_program_for_all_folds(finished):
    _, compiled = finished
    assert compiled[0] > max(compiled[1:])
    # What is left is the key and the state's beginning, whose seed is another in every fold.
    assert max(compiled[1:]) <= 2


def test_every_image_is_predicted_by_a_network_that_has_not_seen_it(finished, tree):
    workdir, _ = finished
    rows = predictions(workdir)
    paths = sorted(path.relative_to(tree).as_posix() for path in tree.glob("train/*/*.png"))
    assert [row["path"] for row in rows] == paths
    assert [row["label"] for row in rows] == [path.split("/")[1] for path in paths]
    sides = {}
    for row in rows:
        sides.setdefault(row["path"].split("/")[-1].split("_")[0], set()).add(row["fold"])
    assert len(sides) == 24
    assert {len(folds) for folds in sides.values()} == {1}
    assert {row["fold"] for row in rows} == {"1", "2", "3"}
    for number in "123":
        model = trained.load(trained.resolve(workdir / f"fold-1-{number}"))
        held_out = [row for row in rows if row["fold"] == number]
        images = np.stack([np.asarray(Image.open(tree / row["path"])) for row in held_out])
        logits = model.module.apply(model.variables, images[..., None])
        expected = jax.nn.softmax(logits / model.temperature)
        given = np.array([[row[name] for name in CLASSES] for row in held_out], float)
        np.testing.assert_allclose(given, expected, rtol=1e-4, atol=1e-6)


def test_the_contract(finished):
    workdir, _ = finished
    content = json.loads((workdir / "cross_validation.json").read_text())
    rows = predictions(workdir)
    assert content["n"] == len(rows) == 75
    assert content["classes"] == CLASSES
    assert (content["folds"], content["repeats"]) == (3, 1)
    labels = [row["label"] for row in rows]
    predicted = [row["predicted"] for row in rows]
    accuracy = sk.accuracy_score(labels, predicted)
    assert content["pooled"]["accuracy"] == pytest.approx(accuracy)
    assert content["pooled"]["f1"] == pytest.approx(sk.f1_score(labels, predicted, average="macro"))
    each = [row["accuracy"] for row in content["per_fold"]]
    assert content["mean"]["accuracy"] == pytest.approx(np.mean(each))
    assert content["std"]["accuracy"] == pytest.approx(np.std(each, ddof=1))
    low, high = content["interval"]["accuracy"]
    assert low < content["mean"]["accuracy"] < high
    assert content["grouping"]["identical"] == 3
    assert content["grouping"]["subjects"] == 24
    for row in content["per_fold"]:
        report = json.loads((workdir / row["workdir"] / "report" / "report.json").read_text())
        assert report["accuracy"] == row["accuracy"]
        # No image of the fold is among those that the network was trained on or chosen by.
        assert report["deduplicated"]["n"] == row["n"]
        assert row["n"] + row["train"] + row["validation"] == 75
    names = {"cross_validation.png", "scheme.json", "config.toml", "report"}
    assert names <= {path.name for path in workdir.iterdir()}
    assert (workdir / "report" / "report.html").is_file()


def test_a_fold_that_is_done_is_not_run_again(copy, arguments, monkeypatch):
    from emotion_jax.training import loop

    before = (copy / "cross_validation.json").read_bytes()
    (copy / "cross_validation.json").unlink()

    def train(*args):
        raise AssertionError("a fold is run again")

    monkeypatch.setattr(loop, "train", train)
    cross_validate.main([*arguments, "--workdir", str(copy)])
    assert (copy / "cross_validation.json").read_bytes() == before


def test_those_that_are_called_alike_have_archives_of_their_own(arguments, tmp_path, capsys):
    drive = tmp_path / "drive"

    def run(home, folds):
        more = ["--training.epochs", 1, "--training.backup_to", drive, "--folds", folds]
        more += ["--workdir", tmp_path / home / "cv"]
        cross_validate.main([*arguments, *map(str, more)])
        return sorted(drive.iterdir())

    first = run("a", 2)
    both = run("b", 3)
    assert (len(first), len(both)) == (2, 5)
    assert set(first) < set(both)
    before = (tmp_path / "a" / "cv" / "predictions.csv").read_bytes()
    assert "Going on from the backup" not in capsys.readouterr().err
    shutil.rmtree(tmp_path / "a")
    assert run("a", 2) == both
    assert capsys.readouterr().err.count("Going on from the backup") == 2
    assert (tmp_path / "a" / "cv" / "predictions.csv").read_bytes() == before


@pytest.mark.parametrize("name", ["fold.json", "probabilities.npy"])
def test_a_damaged_fold_is_measured_again(copy, arguments, name):
    before = json.loads((copy / "cross_validation.json").read_text())
    path = copy / "fold-1-2" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    cross_validate.main([*arguments, "--workdir", str(copy)])
    assert json.loads((copy / "cross_validation.json").read_text()) == before
    assert path.read_bytes() != bytes(content)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (["--folds", "4"], "--folds is 4, but the cross-validation in {} began with 3"),
        (["--repeats", "2"], "--repeats is 2"),
        (["--near", "-1"], "--near is -1"),
        (["--groups", r"^P(\d)"], r"--groups is ^P(\d), but"),
        (["--training.learning_rate", "0.5"], "training.learning_rate is 0.5, but the run in {}"),
        (["--data.split_seed", "1"], "data.split_seed is 1"),
    ],
)
def test_what_differs_in_the_same_workdir_is_named(copy, arguments, capsys, change, said):
    sentence = refused(capsys, *arguments, "--workdir", copy, *change)
    assert said.format(copy) in sentence


def test_other_images_in_the_same_workdir(copy, arguments, tree, tmp_path, capsys):
    shutil.copytree(tree, tmp_path / "tree")
    first, *_ = sorted((tmp_path / "tree" / "train" / "sad").iterdir())
    Image.fromarray(np.full((12, 12), 7, np.uint8)).save(first)
    sentence = refused(capsys, *arguments, "--workdir", copy, "--data", tmp_path / "tree")
    assert "The images are not those" in sentence


def test_bad_input_gets_a_sentence(arguments, tmp_path, capsys):
    cases = {
        "--folds is 1": ["--folds", 1],
        "too few for 70 folds": ["--folds", 70],
        "invalid int value": ["--folds", "many"],
        "there is no file": ["--groups", "nobody.csv"],
        "no subject for": ["--groups", "^(Q)"],
        "training.epochs": ["--training.epochs", 0],
    }
    for said, change in cases.items():
        assert said in refused(capsys, *arguments, "--workdir", tmp_path / "new", *change)
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    assert "workdir of a training run" in refused(capsys, *arguments, "--workdir", tmp_path / "run")


def test_a_scheme_that_was_lost(copy, arguments, capsys):
    (copy / "scheme.json").write_text("{")
    assert "no scheme.json that can be read" in refused(capsys, *arguments, "--workdir", copy)


@pytest.mark.parametrize("setting", ["init_from", "teachers"])
def test_a_network_that_has_seen_what_is_held_out(copy, arguments, tmp_path, capsys, setting):
    before = ("--workdir", tmp_path / "new", f"--training.{setting}", copy / "fold-1-1")
    said = refused(capsys, *arguments, *before)
    assert f"error: training.{setting}: {copy / 'fold-1-1'} has learnt from, or was chosen" in said
    assert "images that fold 2 holds out" in said  # the first one is held out from it as well
    assert not list((tmp_path / "new").glob("fold-*"))


def test_a_network_of_another_size_cannot_be_told(copy, arguments, tmp_path, capsys):
    more = ("--workdir", tmp_path / "new", "--training.teachers", copy / "fold-1-1")
    said = refused(capsys, *arguments, *more, "--data.image_size", 16)
    assert "has seen images of another size, so whether they are held out now" in said
    assert not list((tmp_path / "new").glob("fold-*"))


@pytest.mark.parametrize("name", ["predictions.csv", "cross_validation.json", "scheme.json"])
def test_a_folder_of_someone_elses_results_is_left_alone(arguments, tmp_path, capsys, name):
    (tmp_path / name).write_text("mine")
    said = refused(capsys, *arguments, "--workdir", tmp_path)
    assert f"holds {name}, and no fold that it could come from" in said
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, "mine")]
