import json
import shutil
from dataclasses import replace

import pytest

from emotion_jax.cli import card, evaluate, info
from emotion_jax.training import trained, weights

pytestmark = pytest.mark.usefixtures("finished_cache")


def test_a_card_of_a_run_and_its_reports(finished, tmp_path, capsys):
    out = tmp_path / "report"
    evaluate.main([str(finished), "--robustness", "--out", str(out)])
    assert (out / "robustness.png").is_file()
    assert "When pictures get worse" in (out / "report.html").read_text()
    card.main([str(finished), "--report", str(out), "--licence", "research use", "--out",
               str(tmp_path / "cards" / "CARD.md")])  # fmt: skip
    text = (tmp_path / "cards" / "CARD.md").read_text()
    report = json.loads((out / "report.json").read_text())
    for expected in (
        f"| Accuracy | {100 * report['accuracy']:.1f}% (95% interval",
        "licence: research use",
        "Name: not recorded",
        "Selection: highest validation accuracy, then",
        "An expression is not a feeling",
        "| darkness (grey values times) | 0.7: ",
        "[training]",
        f"| happy | {100 * report['per_class']['happy']['precision']:.1f}%",
    ):
        assert expected in text
    capsys.readouterr()
    card.main([str(finished)])
    assert "No report was given." in capsys.readouterr().out


def test_a_report_of_something_else_is_refused(finished, tmp_path, capsys):
    report = json.loads((finished / "report" / "report.json").read_text())
    report["checkpoint"]["weights"] = "0" * 64
    (tmp_path / "report.json").write_text(json.dumps(report))
    for folder, sentence in ((tmp_path, "another checkpoint"), (tmp_path / "no", "no report.json")):
        with pytest.raises(SystemExit) as stop:
            card.main([str(finished), "--report", str(folder)])
        assert stop.value.code == 2
        assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("lost", ["protocol", "per_class"])
def test_a_part_of_a_report_is_refused(finished, tmp_path, capsys, lost):
    report = json.loads((finished / "report" / "report.json").read_text())
    del report[lost]
    for content in (report, report | {lost: None, "protocol": {"seed": 0}}):
        (tmp_path / "report.json").write_text(json.dumps(content))
        with pytest.raises(SystemExit) as stop:
            card.main([str(finished), "--report", str(tmp_path)])
        assert stop.value.code == 2
        said = capsys.readouterr().err
        assert said == (
            f"error: {tmp_path / 'report.json'} is not all of a report; run scripts/evaluate.py "
            "again.\n"
        )


def test_a_card_takes_reports_of_fewer_classes(finished, tiny_tree, tmp_path, capsys):
    shutil.copytree(tiny_tree / "test" / "sad", tmp_path / "data" / "sad")
    fewer = ["--without", "happy", "angry"]
    evaluate.main([str(finished), "--data", str(tmp_path / "data"), "--out", str(tmp_path), *fewer])
    capsys.readouterr()
    card.main([str(finished), "--report", str(tmp_path), str(finished / "report")])
    said = capsys.readouterr().out
    assert "### test split, without angry, happy\n" in said
    assert "### test split\n" in said


def test_the_title_is_the_name_of_the_checkpoint(finished, tmp_path, monkeypatch, capsys):
    run = shutil.copytree(finished, tmp_path / "run.v2")
    weights.write(tmp_path / "mine.v3.safetensors", trained.load(trained.resolve(run)))
    monkeypatch.chdir(run)
    names = {".": "run.v2", str(run): "run.v2", "../mine.v3.safetensors": "mine.v3"}
    for source, title in {**names, "ferplus": "ferplus"}.items():
        card.main([source])
        assert capsys.readouterr().out.splitlines()[0] == f"# Model card: {title}"


def test_whether_validation_was_new_to_it_is_told_where_it_may_not_have_been(
    finished, tiny_tree, tmp_path, capsys
):
    model = trained.load(trained.resolve(finished))
    doubt = "may have learnt from its validation images"
    for unseen in (True, False):
        path, out = tmp_path / f"{unseen}.safetensors", tmp_path / str(unseen)
        about = model.description | {"validation_unseen": unseen}
        weights.write(path, replace(model, description=about))
        evaluate.main([str(path), "--data", str(tiny_tree), "--out", str(out)])
        capsys.readouterr()
        protocol = json.loads((out / "report.json").read_text())["protocol"]
        said = [protocol.get("validation", ""), (out / "report.html").read_text()]
        for command in (card, info):
            command.main([str(path)])
            said.append(capsys.readouterr().out)
        assert [doubt in text for text in said] == [not unseen] * 4


def test_a_folder_is_no_place_for_a_card(finished, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        card.main([str(finished), "--out", "."])
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: . is a folder; give the name of a file to --out.\n"


def test_info(finished, capsys):
    info.main([str(finished)])
    said = capsys.readouterr().out
    assert "classes:      angry, happy, sad" in said
    assert "cnn, " in said
    info.main([str(finished), "--json"])
    about = json.loads(capsys.readouterr().out)
    assert about["classes"] == ["angry", "happy", "sad"]


def test_shipped_weights_say_what_they_are(capsys):
    info.main(["ferplus"])
    assert (
        "angry, contempt, disgust, fear, happy, neutral, sad, surprise" in capsys.readouterr().out
    )


def test_an_option_of_many_values_is_given_once(finished, capsys):
    with pytest.raises(SystemExit) as stop:
        card.main([str(finished), "--report", "one", "--report=two"])
    assert stop.value.code == 2
    assert "--report is given 2 times; give all its values after one." in capsys.readouterr().err
