import csv
import errno
import fcntl
import os
import shutil
from pathlib import Path

import pytest

from emotion_jax import config as config_lib
from emotion_jax.data import dataset
from emotion_jax.data.folder import Problem
from emotion_jax.errors import UserError
from emotion_jax.training import loop, workdir


def go(config, folder):
    with workdir.opened(folder, config):
        return loop.train(config, folder, dataset.load(config.data))


@pytest.mark.parametrize("name", ["metrics.jsonl", "summary.json", "unusable.csv", "report/a.html"])
def test_a_folder_of_someone_elses_results_is_left_alone(tiny_config, tmp_path, name):
    mine = tmp_path / "mine" / name
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(
        UserError, match=r"mine holds .*, and no checkpoint that it could come from"
    ):
        go(tiny_config, tmp_path / "mine")
    assert mine.read_text() == "mine"
    assert not (tmp_path / "mine" / "config.toml").exists()


def test_the_report_of_a_run_that_has_lost_its_checkpoints_is_kept(tiny_config, tmp_path):
    folder = tmp_path / "run"
    go(tiny_config, folder)
    (folder / "summary.json").write_text("{}")
    (folder / "checkpoints").rename(tmp_path / "elsewhere")
    before = (folder / "metrics.jsonl").read_text()
    with pytest.raises(UserError, match=r"holds summary\.json, and no checkpoint"):
        go(tiny_config, folder)
    assert (folder / "metrics.jsonl").read_text() == before


def test_a_command_that_is_refused_changes_nothing(tiny_config, tiny_tree, tmp_path):
    folder = tmp_path / "run"
    go(tiny_config, folder)
    (folder / "unusable.csv").write_text("path,reason\n")
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    other = shutil.copytree(tiny_tree, tmp_path / "other")
    next((other / "train" / "sad").iterdir()).unlink()
    data = tiny_config.data.model_copy(update={"dir": other})
    fewer = tiny_config.training.model_copy(update={"epochs": 1})
    for name, section, said in (("data", data, "images are not"), ("training", fewer, "epoch")):
        with pytest.raises(UserError, match=said):
            go(tiny_config.model_copy(update={name: section}), folder)
        after = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
        assert after == before


def test_a_run_that_goes_on_notes_where_its_data_is(tiny_config, tiny_tree, tmp_path):
    go(tiny_config, tmp_path / "run")
    shutil.copytree(tiny_tree, tmp_path / "moved")
    data = tiny_config.data.model_copy(update={"dir": tmp_path / "moved"})
    go(tiny_config.model_copy(update={"data": data}), tmp_path / "run")
    assert config_lib.load(tmp_path / "run" / "config.toml").data.dir == tmp_path / "moved"


def test_a_run_that_never_came_to_a_checkpoint_begins_anew(tiny_config, tmp_path):
    folder = tmp_path / "run"
    with workdir.opened(folder, tiny_config):
        workdir.write_history(folder, [{"epoch": 1}])
    assert len(go(tiny_config, folder)) == tiny_config.training.epochs


def test_a_config_that_no_run_wrote_is_not_overwritten(tiny_config, tmp_path):
    path = tmp_path / "config.toml"
    for text in (
        "# mine\n" + config_lib.dumps(tiny_config),
        "training.seed = 3\n",
    ):
        path.write_text(text)
        with (
            pytest.raises(UserError, match=r"config\.toml was not written by this version"),
            workdir.opened(tmp_path, tiny_config),
        ):
            pass
        assert path.read_text() == text


def test_a_config_that_a_run_wrote_gives_way_to_other_settings(tiny_config, tmp_path):
    for config in (training(tiny_config, seed=1), training(tiny_config, seed=2)):
        with workdir.opened(tmp_path, config):
            assert config_lib.load(tmp_path / "config.toml") == config


def training(config, **values):
    return config.model_copy(update={"training": config.training.model_copy(update=values)})


def test_where_teachers_lie_may_change_once_a_run_has_begun(tiny_config, tmp_path):
    before, now, none = (
        training(tiny_config, teachers=names) for names in (("a", "c"), ("b", "c"), ())
    )
    workdir.check_same(before, now, tmp_path, has_begun=True)
    with pytest.raises(UserError, match=r"training\.teachers is .*b.*, but .* began with \['a'"):
        workdir.check_same(before, now, tmp_path)
    for has_begun in (False, True):
        with pytest.raises(UserError, match=r"training\.teachers is empty, .* began with \['a'"):
            workdir.check_same(before, none, tmp_path, has_begun)
        with pytest.raises(UserError, match=r"training\.teachers is \['a'.* began with empty"):
            workdir.check_same(none, before, tmp_path, has_begun)


def test_a_run_has_begun_with_the_weights_that_it_began_with(tiny_config, tmp_path):
    # No checkpoint could tell that others were named later.
    before, now = (training(tiny_config, init_from=name) for name in "ab")
    for has_begun in (False, True):
        with pytest.raises(UserError, match=r"training\.init_from is b, but .* began with a"):
            workdir.check_same(before, now, tmp_path, has_begun)


def test_epochs_may_change_unless_the_rate_depends_on_them(tiny_config, tmp_path):
    longer = {"epochs": 9, "schedule": "cosine"}
    workdir.check_same(tiny_config, training(tiny_config, epochs=9), tmp_path)
    for before, now in ((tiny_config, training(tiny_config, **longer)),
                        (training(tiny_config, **longer), tiny_config)):  # fmt: skip
        with pytest.raises(UserError, match=r"training\.schedule is"):
            workdir.check_same(before, now, tmp_path)
    cosine = training(tiny_config, schedule="cosine")
    with pytest.raises(UserError, match=r"training\.epochs is 9, .* began with 4"):
        workdir.check_same(cosine, training(tiny_config, **longer), tmp_path)


def test_processes_agree_on_more_than_a_run_keeps(tiny_config):
    agreed = workdir.agreed(tiny_config)
    for values in ({"epochs": 9}, {"init_from": "a"}, {"teachers": ("a",)}, {"seed": 1}):
        assert workdir.agreed(training(tiny_config, **values)) != agreed
    assert workdir.agreed(training(tiny_config, backup_to=Path("a"))) == agreed


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks(tiny_config, tmp_path, monkeypatch, number):
    def flock(file, how):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with workdir.opened(tmp_path, tiny_config):
        workdir.write_history(tmp_path, [{"epoch": 1}])
    assert config_lib.load(tmp_path / "config.toml") == tiny_config


def test_a_workdir_whose_lock_cannot_be_made(tiny_config, tmp_path, monkeypatch):
    def flock(file, how):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", flock)
    with (
        pytest.raises(UserError, match="Input/output error"),
        workdir.opened(tmp_path, tiny_config),
    ):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_the_list_of_problems_is_read_as_it_was(tmp_path):
    problems = [Problem("a\rb.txt", "not an image file (.txt)"), Problem("c.png", "zero bytes")]
    workdir.write_problems(tmp_path, problems)
    with (tmp_path / "unusable.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [["path", "reason"], *map(list, problems)]
    workdir.write_problems(tmp_path, [])
    assert list(tmp_path.iterdir()) == []
