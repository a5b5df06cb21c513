import pytest

from emotion_jax.data import dataset
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


def test_a_run_that_never_came_to_a_checkpoint_begins_anew(tiny_config, tmp_path):
    folder = tmp_path / "run"
    with workdir.opened(folder, tiny_config):
        workdir.write_history(folder, [{"epoch": 1}])
    assert len(go(tiny_config, folder)) == tiny_config.training.epochs
