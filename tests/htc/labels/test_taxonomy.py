import random
from pathlib import Path

import pytest

from htc import Hierarchy, InputError

HWV = Path(__file__).resolve().parents[4] / "shared/data/hwv"


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
        ("Root\tA\tB\rA\tC\r", "ABC"),
        ("Root\tA\tB\rA\tC".encode("utf-16"), "ABC"),
    ],
    ids=[
        "plain",
        "CRLF",
        "BOM",
        "blank lines",
        "repeated",
        "trailing tabs",
        "several roots",
        "any order",
        "CR",
        "CR in UTF-16",
    ],
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
    ("content", "paths"),
    [
        ("Root\tA\nRoot > A\tA\n", "A A/A"),
        ("Root > A\tA\n", "A A/A"),
        ("Root > A\tA\tB\nC\tD\n", "A C A/A A/B C/D"),
        ("Root\tA\nRoot > A\tA\nA > A\tA\n", "A A/A A/A/A"),
        ("Root\tA\nRoot > A\tA\nRoot > A > A\tA\nA > A > A\tA\tB\n", "A A/A A/A/A A/A/A/A A/A/A/B"),
        ("Root\tA\nA\tB\nA > B\tB\n", "A A/B A/B/B"),
        ("Root\tA\nA\tB\nRoot > A > B\tB\n", "A A/B A/B/B"),
        ("Root\tA\nRoot > A\tB\nA > B\tA\n", "A A/B A/B/A"),
        ("Root\tA\nRoot > A\tB\nB\tA\n", "A A/B A/B/A"),
        ("Root > A\tB\nB\tC\nA > B > C\tA\n", "A A/B A/B/C A/B/C/A"),
        ("Root\tA\tB\nRoot > A\tB\nRoot > B\tA\n", "A B A/B B/A"),
        ("Root\tA\tB\nA\tX\nB\tX\nA > X\tX\n", "A B A/X B/X A/X/X"),
        ("Root\tA\nRoot > A\tA\nRoot > A\tB\n", "A A/A A/B"),
        ("\ufeffRoot\tA\xa0\n Root > A\t A \r\n", "A A/A"),
    ],
)
def test_a_child_may_have_the_name_of_any_label_above_it(tmp_path, content, paths):
    h = Hierarchy.from_taxonomy(write(tmp_path, content))
    assert h.paths == tuple(tuple(path.split("/")) for path in paths.split())


@pytest.mark.parametrize(
    ("content", "line", "how"),
    [
        ("Utilities\tUtilities\n", 1, "Root > Utilities<TAB>Utilities"),
        ("Root\tUtilities\nUtilities\tUtilities\n", 2, "Root > Utilities<TAB>Utilities"),
        ("Root\tA\nA\tB\nB\tC\tB\n", 3, "Root > A > B<TAB>B"),
        ("Root\tA\nA\tB\nB\tA\n", 3, "Root > A > B<TAB>A"),
        ("Root\tA\nA\tX\nRoot > A > X\tY\nY\tY\n", 4, "Root > A > X > Y<TAB>Y"),
    ],
)
def test_the_message_shows_how_such_a_child_is_written(tmp_path, content, line, how):
    file = write(tmp_path, content)
    with pytest.raises(InputError, match=rf":{line}: .*begin the line with its parent's path: {how}$") as error:
        Hierarchy.from_taxonomy(file)
    lines = content.splitlines()
    lines[line - 1] = how.replace("<TAB>", "\t")  # as it says
    file.write_text("\n".join(lines))
    if "cycle" in str(error.value):  # the line of the upper label must say which one is meant, too, and the message says so
        with pytest.raises(InputError, match="'A' is ambiguous: it stands for 'Root > A' and for 'A > B > A'; begin the line"):
            Hierarchy.from_taxonomy(file)
        file.write_text(file.read_text().replace("A\tB", "Root > A\tB"))
    path = how.removeprefix("Root > ").replace("<TAB>", " > ").split(" > ")
    assert Hierarchy.from_taxonomy(file).node(path) is not None


@pytest.mark.parametrize("seed", range(40))
def test_what_is_written_reads_back(tmp_path, seed):
    """Random trees of few names, so that a name is often that of a parent or of a sibling's child."""
    rng = random.Random(seed)
    paths = [()]
    for _ in range(rng.randrange(1, 25)):
        paths.append((*rng.choice(paths), rng.choice("ABC")))
    h = Hierarchy.from_paths(paths[1:])
    h.save_taxonomy(tmp_path / "h.taxonomy")
    assert Hierarchy.from_taxonomy(tmp_path / "h.taxonomy") == h


def test_what_cannot_be_written(tmp_path):
    for name in ("Root", "A > B", "A\tB", "A\nB", "A\rB"):
        with pytest.raises(InputError, match="a taxonomy file cannot hold the name"):
            Hierarchy.from_paths([[name]]).save_taxonomy(tmp_path / "h.taxonomy")
    with pytest.raises(InputError, match="needs a tree"):
        Hierarchy.from_pairs([("A", "C"), ("B", "C")]).save_taxonomy(tmp_path / "h.taxonomy")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        ("", None, "is empty"),
        ("\n \n", None, "is empty"),
        ("Root\tA\nA\tB\nB\tA\n", 3, "cycle: A > B > A"),
        ("A\tB\nB\tC\nC\tA\n", 3, "cycle"),
        ("Root\tA\nA\tB\tA\n", 2, "its own child"),
        ("Root\tA\nRoot > A\tA\nA\tX\n", 3, "'A' is ambiguous: it stands for 'Root > A' and for 'A > A'"),
        ("Root\tB\nRoot > A\tC\n", 2, "the parent 'Root > A' is nobody's child; did you mean 'Root > B'"),
        ("Root\tA\nroot > A\tA\n", 2, "'root > A' is nobody's child; did you mean 'Root > A'"),
        ("A > B\tC\n", None, "no line says which labels are at the top"),
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
def test_files_that_are_wrong_are_reported_with_their_line(tmp_path, content, line, message):
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
