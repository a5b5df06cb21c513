import contextlib
import gzip
import io
import os
import stat
import struct
import tarfile
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emotion_jax.data import archives, budget
from emotion_jax.errors import UserError

FILES = {f"train/{c}/{i}.png": os.urandom(700 * (i + 1)) for c in "ab" for i in range(3)}
KINDS = ["x.zip", "x.tar", "x.tar.gz", "X.TGZ"]


@pytest.fixture
def out(tmp_path):
    (tmp_path / "deep/out").mkdir(parents=True)
    return tmp_path / "deep/out"


def member(name, **changes):
    info = tarfile.TarInfo(name)
    for key, value in changes.items():
        setattr(info, key, value)
    return info


def pack(path, files=FILES, extra=(), **options):
    """An archive of files, and of members that only this kind of archive knows."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, **options) as archive:
            for name, data in (*files.items(), *extra):
                archive.writestr(name, data)
    else:
        mode = "w" if path.suffix == ".tar" else "w:gz"
        with tarfile.open(path, mode, **options) as archive:
            for name, data in files.items():
                archive.addfile(member(name, size=len(data)), io.BytesIO(data))
            for info in extra:
                archive.addfile(info)
    return path


def files_in(root):
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def nothing_outside(out):
    return os.listdir(out.parent) == ["out"] and not any(p.is_symlink() for p in out.rglob("*"))


@pytest.mark.parametrize("kind", KINDS)
def test_every_file_as_it_was(tmp_path, out, kind):
    assert archives.unpack(pack(tmp_path / kind), out) == []
    assert files_in(out) == FILES


@pytest.mark.parametrize("kind", KINDS)
def test_only_images_and_tables_are_unpacked(tmp_path, out, kind):
    wanted = {"a.JPG": b"1", "b.jpeg": b"2", "c/d.webp": b"3", "e.bmp": b"", "fer2013.csv": b"4"}
    others = {"README.md": b"x", "run.sh": b"x", "m.pkl": b"x", "noextension": b"x"}
    hidden = {".git/a.png": b"x", "__MACOSX/a.png": b"x", "c/._d.png": b"x", "Thumbs.db": b"x"}
    notes = archives.unpack(pack(tmp_path / kind, wanted | others | hidden), out)
    assert notes == ["4 files that are no images were not unpacked."]
    assert files_in(out) == wanted


def test_empty_folders_are_kept(tmp_path, out):
    archives.unpack(pack(tmp_path / "x.zip", FILES, [("train/empty/", b"")]), out)
    assert (out / "train/empty").is_dir()
    folder = member("train/none", type=tarfile.DIRTYPE)
    archives.unpack(pack(tmp_path / "x.tar", FILES, [folder]), out)
    assert (out / "train/none").is_dir()


def test_the_common_ways_to_begin_a_name(tmp_path, out):
    archives.unpack(pack(tmp_path / "x.tar", {"./train/a/1.png": b"1"}), out)
    archives.unpack(pack(tmp_path / "x.zip", {r"train\b\1.png": b"2"}), out)
    assert files_in(out) == {"train/a/1.png": b"1", "train/b/1.png": b"2"}


@pytest.mark.parametrize("kind", ["x.zip", "x.tar"])
@pytest.mark.parametrize("name", ["怒り/1.png", "سعيد/é.png", "a b/🙂.png"])
def test_names_in_any_script(tmp_path, out, kind, name):
    archives.unpack(pack(tmp_path / kind, {name: b"1"}), out)
    assert files_in(out) == {name: b"1"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "name",
    ["../evil.png", "a/../../evil.png", "/tmp/evil.png", "C:/evil.png", "c:evil.png",
     r"..\evil.png", r"\\host\share\evil.png", "train/../../../../evil.png", "../out2/evil.png"],
)  # fmt: skip
def test_names_that_lead_out(tmp_path, out, kind, name):
    with pytest.raises(UserError, match="is not safe to unpack"):
        archives.unpack(pack(tmp_path / kind, {name: b"evil"}), out)
    assert files_in(out) == {}
    assert nothing_outside(out)


@pytest.mark.parametrize("name", ["../evil.txt", "/etc/.hidden"])
def test_a_name_that_leads_out_is_refused_even_where_it_would_be_ignored(tmp_path, out, name):
    for kind in ("x.zip", "x.tar"):
        with pytest.raises(UserError, match="is not safe to unpack"):
            archives.unpack(pack(tmp_path / kind, {name: b"evil"}), out)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
@pytest.mark.parametrize("target", ["/etc/passwd", "../../../secret.png", ".."])
def test_tar_links_that_lead_out(tmp_path, out, kind, target):
    link = member("train/a/link.png", type=kind, linkname=target)
    if target == ".." and kind == tarfile.SYMTYPE:
        link.name = "link.png"
    with pytest.raises(UserError, match="is not safe to unpack"):
        archives.unpack(pack(tmp_path / "x.tar", FILES, [link]), out)
    assert nothing_outside(out)


def test_a_link_is_judged_by_its_name_and_not_by_the_disk(tmp_path, out):
    (tmp_path / "train").symlink_to("/")  # beside the archive; nothing is unpacked there
    link = member("train/a/l.png", type=tarfile.SYMTYPE, linkname="../b/./0.png")
    notes = archives.unpack(pack(tmp_path / "x.tar", FILES, [link]), out)
    assert notes == ["1 links were not unpacked; pack the files themselves."]
    assert files_in(out) == FILES


@pytest.mark.parametrize("kind", KINDS)
def test_a_python_without_filters_for_tar(tmp_path, out, kind, monkeypatch):
    for name in ("data_filter", "FilterError"):  # 3.11.0 to 3.11.3
        monkeypatch.delattr(tarfile, name)
    assert archives.unpack(pack(tmp_path / kind), out) == []
    assert files_in(out) == FILES


def test_writing_through_a_link(tmp_path, out):
    """A link to a folder, then a file below it: the way out of many unpackers."""
    link = member("train", type=tarfile.SYMTYPE, linkname="a")
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        archive.addfile(link)
        archive.addfile(member("train/1.png", size=1), io.BytesIO(b"1"))
    assert archives.unpack(tmp_path / "x.tar", out) == [
        "1 links were not unpacked; pack the files themselves."
    ]
    assert files_in(out) == {"train/1.png": b"1"}
    assert nothing_outside(out)


def test_links_inside_are_left_out_and_counted(tmp_path, out):
    links = [
        member("train/a/l.png", type=tarfile.SYMTYPE, linkname="0.png"),
        member("train/a/h.png", type=tarfile.LNKTYPE, linkname="train/a/0.png"),
    ]
    notes = archives.unpack(pack(tmp_path / "x.tar", FILES, links), out)
    assert notes == ["2 links were not unpacked; pack the files themselves."]
    assert files_in(out) == FILES


def test_zip_links(tmp_path, out):
    link = zipfile.ZipInfo("train/a/link.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    notes = archives.unpack(pack(tmp_path / "x.zip", FILES, [(link, b"/etc/passwd")]), out)
    assert notes == ["1 links were not unpacked; pack the files themselves."]
    assert files_in(out) == FILES


@pytest.mark.parametrize("kind", [tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE])
def test_special_files(tmp_path, out, kind):
    with pytest.raises(UserError, match="is not safe to unpack"):
        archives.unpack(pack(tmp_path / "x.tar", FILES, [member("a.png", type=kind)]), out)


def test_an_encrypted_zip(tmp_path, out):
    data = bytearray(pack(tmp_path / "x.zip").read_bytes())
    for magic, place in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        at = data.find(magic)
        while at >= 0:
            data[at + place] |= 1
            at = data.find(magic, at + 4)
    (tmp_path / "x.zip").write_bytes(data)
    with pytest.raises(UserError, match="is encrypted"):
        archives.unpack(tmp_path / "x.zip", out)


def test_a_compression_that_is_not_known(tmp_path, out):
    data = bytearray(pack(tmp_path / "x.zip").read_bytes())
    for magic, place in ((b"PK\3\4", 8), (b"PK\1\2", 10)):
        data[data.find(magic) + place] = 97
    (tmp_path / "x.zip").write_bytes(data)
    with pytest.raises(UserError, match="cannot be read"):
        archives.unpack(tmp_path / "x.zip", out)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("data", [b"", b"not an archive", b"\0" * 100, b"PK\3\4" + b"\0" * 50])
def test_no_archive(tmp_path, out, kind, data):
    (tmp_path / kind).write_bytes(data)
    with pytest.raises(UserError, match="is damaged or no such archive"):
        archives.unpack(tmp_path / kind, out)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_cut_archive(tmp_path, out, kind, share):
    data = pack(tmp_path / kind).read_bytes()
    end = data.rstrip(b"\0") if kind == "x.tar" else data  # its end mark is zeros
    (tmp_path / kind).write_bytes(end[: int(share * len(end))])
    with pytest.raises(UserError, match="is damaged or no such archive"):
        archives.unpack(tmp_path / kind, out)


def test_a_tar_cut_between_two_members_is_not_taken_for_whole(tmp_path, out):
    path = pack(tmp_path / "x.tar")
    with tarfile.open(path) as archive:
        cut = archive.getmembers()[3].offset
    path.write_bytes(path.read_bytes()[:cut])
    with tarfile.open(path) as archive:
        assert len(archive.getmembers()) == 3  # tarfile itself sees nothing wrong
    with pytest.raises(UserError, match="no end mark"):
        archives.unpack(path, out)


def test_a_damaged_header_in_the_middle_is_not_taken_for_the_end(tmp_path, out):
    path = pack(tmp_path / "x.tar")
    with tarfile.open(path) as archive:
        at = archive.getmembers()[3].offset
    data = bytearray(path.read_bytes())
    data[at + 10] ^= 1
    path.write_bytes(data)
    with tarfile.open(path) as archive:
        assert len(archive.getmembers()) == 3
    with pytest.raises(UserError, match="no end mark"):
        archives.unpack(path, out)


@pytest.mark.parametrize("kind", ["x.zip", "x.tar.gz"])
def test_a_flipped_byte_fails_a_checksum(tmp_path, out, kind):
    data = bytearray(pack(tmp_path / kind).read_bytes())
    data[len(data) // 3] ^= 1
    (tmp_path / kind).write_bytes(data)
    with pytest.raises(UserError, match="is damaged or no such archive"):
        archives.unpack(tmp_path / kind, out)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_of_use(tmp_path, out, kind):
    with pytest.raises(UserError, match="holds no images"):
        archives.unpack(pack(tmp_path / kind, {"a.txt": b"1", ".a.png": b"2"}), out)


@pytest.mark.parametrize("kind", ["x.zip", "x.tar.gz"])
@pytest.mark.parametrize("name", ["a.png", "skipped.txt"])
def test_a_bomb(tmp_path, out, kind, name, monkeypatch):
    monkeypatch.setattr(budget, "FREE_BYTES", 2**20)
    path = pack(tmp_path / kind, {"b.png": b"", name: bytes(8 * 2**20)})
    if kind == "x.zip" and name == "skipped.txt":
        archives.unpack(path, out)  # a zip's member that is not wanted is not even inflated
    else:
        with pytest.raises(UserError, match="unpacks to more than"):
            archives.unpack(path, out)
    assert sum(map(len, files_in(out).values())) <= 2 * 2**20


def test_a_zip_that_lies_about_its_size(tmp_path, out, monkeypatch):
    monkeypatch.setattr(budget, "FREE_BYTES", 2**20)
    data = bytearray(pack(tmp_path / "x.zip", {"a.png": bytes(8 * 2**20)}).read_bytes())
    for magic, place in ((b"PK\3\4", 22), (b"PK\1\2", 24)):
        at = data.find(magic) + place
        data[at : at + 4] = struct.pack("<I", 10)
    (tmp_path / "x.zip").write_bytes(data)
    with pytest.raises(UserError):
        archives.unpack(tmp_path / "x.zip", out)
    assert sum(map(len, files_in(out).values())) <= 2**20


def test_many_members_of_one_size(tmp_path, out, monkeypatch):
    """The limit is on all of them together."""
    monkeypatch.setattr(budget, "FREE_BYTES", 2**20)
    files = {f"{i}.bmp": bytes(2**18) for i in range(8)}
    with pytest.raises(UserError, match="unpacks to more than"):
        archives.unpack(pack(tmp_path / "x.zip", files), out)


@pytest.mark.parametrize("kind", KINDS)
def test_limits_on_bytes_and_members(tmp_path, out, kind, monkeypatch):
    path = pack(tmp_path / kind)
    with monkeypatch.context() as patch:
        patch.setattr(budget, "MAX_BYTES", 5000)
        with pytest.raises(UserError, match="unpacks to more than"):
            archives.unpack(path, out)
    monkeypatch.setattr(budget, "MAX_MEMBERS", 5)
    with pytest.raises(UserError, match="has more than 5 members"):
        archives.unpack(path, out)
    monkeypatch.setattr(budget, "MAX_MEMBERS", 6)
    archives.unpack(path, out)


def test_a_long_header_is_not_taken_into_memory(tmp_path, out):
    long = member("x", type=tarfile.GNUTYPE_LONGNAME, size=30 * 2**20)
    with gzip.open(tmp_path / "x.tar.gz", "wb") as file:
        file.write(long.tobuf(tarfile.GNU_FORMAT) + bytes(30 * 2**20))
    with pytest.raises(UserError, match="a header of 31457280 bytes"):
        archives.unpack(tmp_path / "x.tar.gz", out)


def test_a_sparse_file_is_left_out(tmp_path, out):
    hole = member("hole.png", type=tarfile.GNUTYPE_SPARSE)
    header = bytearray(hole.tobuf(tarfile.GNU_FORMAT))
    header[483:495] = b"%011o\0" % (2**32)  # its real size
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    whole = pack(tmp_path / "x.tar").read_bytes()
    (tmp_path / "x.tar").write_bytes(bytes(header) + whole)
    assert archives.unpack(tmp_path / "x.tar", out) == [
        "1 files that are no images were not unpacked."
    ]
    assert files_in(out) == FILES


def test_a_member_of_negative_size_does_not_go_round_for_ever(tmp_path, out):
    info = member("a.txt", size=1, pax_headers={"size": "-1536"})
    data = info.tobuf(tarfile.PAX_FORMAT) + bytes(512)
    (tmp_path / "x.tar").write_bytes(data + bytes(1024))
    with pytest.raises(UserError, match="is damaged or no such archive"):
        archives.unpack(tmp_path / "x.tar", out)


def test_a_file_in_the_way_of_a_folder(tmp_path, out):
    files = {"a.png": b"1", "a.png/b.png": b"2"}
    with pytest.raises(OSError, match=r"a\.png"):
        archives.unpack(pack(tmp_path / "x.zip", files), out)


@settings(deadline=None, max_examples=60)
@given(
    kind=st.sampled_from(["x.zip", "x.tar", "x.tar.gz"]),
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1),
    cut=st.floats(0.5, 1),
)
def test_any_damage_is_a_sentence_or_harmless(tmp_path_factory, kind, flips, cut):
    base = tmp_path_factory.mktemp("damage")
    out = base / "deep/out"
    out.mkdir(parents=True)
    data = bytearray(pack(base / kind).read_bytes())
    for place, change in flips:
        data[int(place * len(data))] ^= change
    (base / kind).write_bytes(data[: int(cut * len(data))])
    is_whole = kind != "x.tar"  # which has no checksum over contents
    with contextlib.suppress(UserError, OSError):
        archives.unpack(base / kind, out)
        assert not is_whole or set(files_in(out).values()) <= set(FILES.values())
    assert nothing_outside(out)
