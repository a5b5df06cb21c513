import pytest

from emotion_jax.data.subjects import subjects
from emotion_jax.errors import UserError

PATHS = ("train/angry/S05_001.png", "train/angry/S05_002.png", "train/sad/S12_001.png")


def test_a_regular_expression_on_the_name_of_the_file():
    assert subjects(r"^(S\d+)_", PATHS) == ["S05", "S05", "S12"]
    assert subjects(r"_(\d+)\.", PATHS) == ["001", "002", "001"]


def test_a_table(tmp_path):
    table = tmp_path / "who"
    rows = [f'"{path}",{person}' for path, person in zip(PATHS, "aba", strict=True)]
    table.write_text("\n".join(["path,group", *rows, "test/sad/other.png,c"]), "utf-8-sig")
    assert subjects(str(table), PATHS) == ["a", "b", "a"]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("nowhere.csv", "there is no file"),
        ("(S", "no regular expression either"),
        (r"S\d+", "has no (group)"),
        ("^(T)", "no subject for 3 of 3 images, such as train/angry/S05_001.png"),
        ("^(S05)", "no subject for 1 of 3 images, such as train/sad/S12_001.png"),
        ("^(x*)", "no subject for 3"),
        ("path,group\ntrain/angry/S05_001.png,a", "no subject for 2 of 3"),
        ("path,subject\na,b", "no columns path and group"),
        ("", "no columns"),
        (b"path,group\n\xff\xfe,a", "not a table"),
    ],
)
def test_what_gives_no_subject_is_refused(spec, said, tmp_path):
    if isinstance(spec, bytes) or "," in spec or not spec:
        path = tmp_path / "table.csv"
        path.write_bytes(spec if isinstance(spec, bytes) else spec.encode())
        spec = str(path)
    with pytest.raises(UserError) as error:
        subjects(spec, PATHS)
    assert said in str(error.value)
