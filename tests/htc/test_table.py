"""Documents from one table, good and bad."""

import pytest

from htc import InputError
from htc.datasets import load_table

GOOD = "text,area,topic\n" + "".join(f"A song {i}.,Arts,Music\nAn atom {i}.,Science,\n" for i in range(20))


def write(folder, content, name="documents.csv"):
    file = folder / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def test_labels_by_level_and_paths_that_end_early(tmp_path):
    dataset = load_table(write(tmp_path, GOOD))
    assert dataset.name == "documents"
    assert dataset.hierarchy.names == ("Arts", "Science", "Music")
    assert dataset.hierarchy.decode(dataset.targets[:2]) == [[("Arts", "Music")], [("Science",)]]
    assert dataset.places[0].endswith("documents.csv:2")
    assert sum(len(documents) for documents in dataset.splits.values()) == 40


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "\ufefftext;area\nOne, two {};Arts\nThree {};Arts\n"),
        ("a.tsv", "text\tarea\r\nOne, two {}\tArts\r\nThree {}\tArts\r\n"),
        ("a.csv", 'area,text\nArts,"One, two {}"\n\nArts,Three {}\n'),
        ("a.csv", "sep=;\ntext;area\nOne, two {};Arts\nThree {};Arts\n"),
        ("a.csv", '"text";"area";"one, two, three"\nOne, two {};Arts;\nThree {};Arts;\n'),
    ],
)
def test_separators_and_order(tmp_path, name, content):
    lines = content.splitlines(keepends=True)
    start = 2 if lines[0].startswith("sep=") else 1
    rows = "".join("".join(lines[start:]).format(i, i) for i in range(20))
    file = write(tmp_path, "".join(lines[:start]) + rows, name)
    dataset = load_table(file, levels=["area"])
    assert dataset.texts[:2] == ["One, two 0", "Three 0"]


def test_a_text_over_two_lines_and_other_scripts(tmp_path):
    rows = "".join(f'"two\nlines {i}",芸術,音楽\n' for i in range(20))
    dataset = load_table(write(tmp_path, "text,area,topic\n" + rows))
    assert dataset.texts[0] == "two\nlines 0"
    assert dataset.places[0].endswith(":3")
    assert dataset.hierarchy.paths[1] == ("芸術", "音楽")


def test_given_splits(tmp_path):
    content = "text,label,part\na,X,train\nb,X,val\nc,Y,test\nd,Y,Train\n"
    dataset = load_table(write(tmp_path, content), split="part")
    assert {name: documents.tolist() for name, documents in dataset.splits.items()} == {
        "train": [0, 3],
        "dev": [1],
        "test": [2],
    }
    assert dataset.hierarchy.names == ("X", "Y")


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        (None, {}, "cannot read the table: No such file"),
        ("", {}, "the table is empty"),
        ("text,area\n", {}, "has columns but no row"),
        ("text\nA\n", {}, ":1: there is no column of labels beside 'text'"),
        ("txt,area\nA,X\n", {}, ":1: there is no column 'text' .dataset.text.; did you mean 'txt'"),
        ("body,area\nA,X\n", {}, "there is no column 'text' .*it has 'body', 'area'"),
        ("text,area\nA,X\n", {"levels": ["aera"]}, "no column 'aera' .dataset.levels.; did you mean 'area'"),
        ("text,area\nA,X\n", {"split": "part"}, "no column 'part' .dataset.split."),
        ("text,area,area\nA,X,Y\n", {}, ":1: the columns must have names, each its own"),
        ("text,,area\nA,X,Y\n", {}, ":1: the columns must have names"),
        ("text,area\nA,X,Y\n", {}, ":2: the row has 3 cells, but there are 2 columns; put texts that hold ','"),
        ("text,area\n,X\n", {}, ":2: the text .column 'text'. is empty"),
        ("text,area\nA,\n", {}, ":2: the row has no label"),
        ("text,area,topic\nA,,Y\n", {}, ":2: the label in column 'area' is empty, but there is one below it"),
        ('text,area\nA,X\n"B,X\nC,X\n', {}, ":3: the row that begins here is malformed: .*is a quote left open"),
        ("text|area\nA|X\n", {}, "separated by neither commas nor semicolons; with tabs, name it .tsv"),
        ("text,area\nA,X\n", {"levels": ["text"]}, ":1: the column 'text' is given twice"),
        ("text,area\nA,X\n", {"levels": ["area", "area"]}, ":1: the column 'area' is given twice"),
        (b"text,area\nA\xff,X\n", {}, ":2: the table is not UTF-8 text; save it as UTF-8"),
        ("text,area,part\nA,X,train\nB,X,held out\n", {"split": "part"}, ":3: the split must be one of train, dev, test"),
        ("text,area,part\nA,X,train\nB,X,dev\n", {"split": "part"}, "no row is marked as test"),
        ("text,area\nA,X\n", {}, "too few to draw"),
    ],
)
def test_bad_tables(tmp_path, content, arguments, message):
    file = tmp_path / "documents.csv" if content is None else write(tmp_path, content)
    with pytest.raises(InputError, match=message):
        load_table(file, **arguments)
