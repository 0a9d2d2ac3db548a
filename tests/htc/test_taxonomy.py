from pathlib import Path

import pytest

from htc import Hierarchy, InputError

HWV = Path(__file__).resolve().parents[3] / "shared/data/hwv"


def write(tmp_path, content):
    file = tmp_path / "labels.taxonomy"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ("Root\tA\tB\nA\tC\n", "ABC"),
        ("Root\tA\tB\r\nA\tC\r\n", "ABC"),
        (b"\xef\xbb\xbfRoot\tA\tB\nA\tC\n", "ABC"),
        ("\nRoot\tA\tB\n\n  \nA\tC", "ABC"),
        ("Root\tA\nRoot\tB\nA\tC\nA\tC\n", "ABC"),
        ("Root\tA\tB\t\t\nA\tC\t\n", "ABC"),
        ("A\tC\nB\tD\n", "ABCD"),
        ("A\tC\nRoot\tA\tB\n", "ABC"),
    ],
    ids=["plain", "CRLF", "BOM", "blank lines", "repeated", "trailing tabs", "several roots", "any order"],
)
def test_files_that_are_fine(tmp_path, content, names):
    assert Hierarchy.from_taxonomy(write(tmp_path, content)).names == tuple(names)


def test_a_name_under_two_parents_is_two_nodes(tmp_path):
    h = Hierarchy.from_taxonomy(write(tmp_path, "Root\tA\tB\nA\tX\nB\tX\nA > X\tY\n"))
    assert h.paths == (("A",), ("B",), ("A", "X"), ("B", "X"), ("A", "X", "Y"))


def test_a_name_may_return_on_its_own_path(tmp_path):
    h = Hierarchy.from_taxonomy(write(tmp_path, "Root\tA\nA\tOther\nA > Other\tOther\n"))
    assert h.paths == (("A",), ("A", "Other"), ("A", "Other", "Other"))


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        ("", None, "is empty"),
        ("\n \n", None, "is empty"),
        ("Root\tA\nA\tB\nB\tA\n", 3, "cycle: A > B > A"),
        ("A\tB\nB\tC\nC\tA\n", 3, "cycle"),
        ("Root\tA\nA\tB\tA\n", 2, "its own child"),
        ("Root\tA\nX\tB\n", 2, "'X' is nobody's child"),
        ("Root\tMusic\nMusik\tB\n", 2, "did you mean 'Music'"),
        ("Root\tA\nA,B,C\n", 2, "found no tab, but ','"),
        ("Root\tA\nA;B\n", 2, "found no tab, but ';'"),
        ("Root\tA\nA  B  C\n", 2, "separated by tabs"),
        ("Root\tA\nA\n", 2, "found no child"),
        ("Root\tA\t\tB\n", 1, "a name is empty"),
        ("\tA\tB\n", 1, "a name is empty"),
        ("Root\tA\nA\tRoot\n", 2, "listed as a child"),
        ("Root\tA\tB\nA\tX\nB\tX\nX\tY\n", 4, "'X' is ambiguous: it stands for 'A > X' and for 'B > X'"),
        (b"Root\tA\nA\t\xff\n", 2, "not UTF-8"),
        ("root\tA\tB\nA\tC\n", 1, "the only top label is 'root'"),
    ],
)
def test_files_that_are_wrong_are_told_with_their_line(tmp_path, content, line, message):
    file = write(tmp_path, content)
    with pytest.raises(InputError) as error:
        Hierarchy.from_taxonomy(file)
    assert str(error.value).startswith(f"{file}:{line}: " if line else f"{file}: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(InputError, match="cannot read the taxonomy: No such file"):
        Hierarchy.from_taxonomy(tmp_path / "none.taxonomy")


@pytest.mark.skipif(not HWV.exists(), reason="needs the part of Hierarchical WikiVitals that lies beside the repository")
def test_hierarchical_wikivitals():
    h = Hierarchy.from_taxonomy(HWV / "hwv.taxonomy")
    assert (h.num_nodes, len(h.leaves)) == (1186, 953)
    assert [level.stop - level.start for level in h.levels] == [11, 109, 381, 437, 244, 4]
