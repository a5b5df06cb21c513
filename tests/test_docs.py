import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_spine_is_read_in_an_afternoon():
    table = (ROOT / "docs" / "reading.md").read_text().split("That is the spine")[0]
    paths = re.findall(r"^\| `(emotion_jax/\S+\.py)`", table, re.MULTILINE)
    assert len(paths) == 9
    assert sum(len((ROOT / path).read_text().splitlines()) for path in paths) <= 1500


def test_what_the_documents_name_is_there():
    for document in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        text = document.read_text()
        for target in re.findall(r"\]\(([^)#]+)\)", text):
            assert (document.parent / target).exists(), f"{document.name}: {target}"
        for path in re.findall(r"`((?:emotion_jax|configs|scripts)/[\w/.]+\.\w+)`", text):
            assert (ROOT / path).is_file(), f"{document.name}: {path}"


def test_no_file_is_too_long_to_read_in_one_sitting():
    sizes = {p: len(p.read_text().splitlines()) for p in (ROOT / "emotion_jax").rglob("*.py")}
    assert {path.name: n for path, n in sizes.items() if n > 300} == {}
