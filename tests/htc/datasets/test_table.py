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


CELLS = ["Arts{}Music", "Arts{}Film", "Science{}Physics", "Science"]
PATHS = (("Arts",), ("Science",), ("Arts", "Music"), ("Arts", "Film"), ("Science", "Physics"))


def in_cells(mark, header="text,category", cells=CELLS):
    """A table with labels in one cell, a quarter of the rows each."""
    rows = (f'A text {number}.,"{cells[number % len(cells)].format(mark)}"' for number in range(40))
    return "\n".join([header, *rows]) + "\n"


@pytest.mark.parametrize("mark", [" > ", ">", "/", "|", "##", "--", "::", ";", " » ", "→", "\\", ".", " - ", ",", "\n", "\t"])
def test_paths_in_one_cell(tmp_path, mark):
    file = write(tmp_path, in_cells(mark))
    if mark != ",":  # which many labels have
        with pytest.raises(InputError, match=r"documents.csv:\d+: the label .* looks like several in one cell") as caught:
            load_table(file)
        for words in ("dataset.path=category", "dataset.separator=", "dataset.path_separator=", "dataset.separator=''"):
            assert words in str(caught.value)
        with pytest.raises(InputError, match="looks like several in one cell"):
            load_table(file, levels=["category"])
    dataset = load_table(file, path="category", separator=mark)
    assert dataset.hierarchy.paths == PATHS
    assert dataset.hierarchy.decode(dataset.targets[2:4]) == [[("Science", "Physics")], [("Science",)]]
    for as_they_are in (None, ""):
        flat = load_table(file, levels=["category"], separator=as_they_are)
        assert flat.hierarchy.names[:2] == (f"Arts{mark}Music", f"Arts{mark}Film")


@pytest.mark.parametrize("mark", [";", " | ", "\n", ","])
def test_several_paths_in_one_cell(tmp_path, mark):
    cells = [f"Arts > Music{mark}Science > Physics", "Arts > Film", f"Science > Physics{mark}Arts > Film{mark}"]
    file = write(tmp_path, in_cells("", cells=cells))
    dataset = load_table(file, path="category", path_separator=mark)
    assert set(dataset.hierarchy.paths) == set(PATHS)
    assert dataset.hierarchy.decode(dataset.targets[:2]) == [[("Arts", "Music"), ("Science", "Physics")], [("Arts", "Film")]]
    with pytest.raises(InputError, match=r"hold several paths, with .* between them; read them with .?dataset.path_separator="):
        load_table(file, path="category")


def test_several_labels_in_one_cell(tmp_path):
    file = write(tmp_path, in_cells("", cells=["comedy;drama", "drama;romance", "comedy", "comedy;romance"]))
    dataset = load_table(file, path="category", separator=None, path_separator=";")
    assert dataset.hierarchy.names == ("comedy", "drama", "romance")
    assert dataset.targets[:3].int().tolist() == [[1, 1, 0], [0, 1, 1], [1, 0, 0]]
    assert (load_table(file, path="category", path_separator=";").targets == dataset.targets).all()


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        (
            in_cells("/"),
            {"path": "category"},
            "no cell of the column 'category' holds the separator ' > '; is it dataset.separator=/",
        ),
        (in_cells(">", cells=["Arts", "Science"]), {"path": "category"}, "holds the separator .*Single labels are read with"),
        (in_cells(" > "), {"path": "category", "separator": "/"}, ":2: the label 'Arts > Music' .* holds ' > '"),
        (in_cells("> >"), {"path": "category"}, ":2: the path 'Arts> >Music' has an empty label between two ' > '"),
        (in_cells(" > "), {"path": "category", "levels": ["category"]}, "dataset.levels and dataset.path are both given"),
        (in_cells(" > "), {"path": "categori"}, "no column 'categori' .dataset.path.; did you mean 'category'"),
        (in_cells(" > "), {"path": "text"}, "the column 'text' is given twice"),
        (in_cells("", cells=["A > B", ""]), {"path": "category"}, ":3: the row has no label"),
        (in_cells("", cells=["A > B", " > "]), {"path": "category"}, ":3: the row has no label"),
        *(
            (in_cells("", cells=cells), arguments, "are lists, such as .* write paths as Arts > Music")
            for cells in (
                ["['Arts', 'Music']", "['Arts']"],
                ["('Arts', 'Music')", "('Arts',)"],
                ["{{'Arts', 'Music'}}", "{{'Arts'}}"],
                ["{{'Arts': 1.0}}", "{{'Music': 1.0}}"],
                ["{{Arts,Music}}", "{{Arts,Film}}"],
                ["['Arts' 'Music']", "['Arts']"],
                ["[np.str_('Arts')]", "['Arts']"],
            )
            for arguments in ({}, {"path": "category"}, {"path": "category", "separator": ","})
        ),
        (in_cells("\n"), {}, r"dataset.path=category dataset.separator=\$'\\n', several"),
        ("text,area,topic\n" + 'A {},X,"p > 0.05"\n' * 12, {}, ":2: the label 'p > 0.05' .column 'topic'. looks like several"),
        (
            "text,id,area\n" + "".join(f"A,{n},X\n" for n in range(12)),
            {},
            "every row has a label of its own in the column 'id'.*=.area",
        ),
    ],
)
def test_labels_that_are_more_than_one(tmp_path, content, arguments, message):
    with pytest.raises(InputError, match=message):
        load_table(write(tmp_path, content), **arguments)


@pytest.mark.parametrize("missing", ["nan", "NaN", "NaT", "<NA>"])
def test_what_pandas_writes_for_a_missing_value_is_no_label_and_no_text(tmp_path, missing):
    for content, arguments in (
        (f"text,area,topic\nA,X,Y\nB,X,{missing}\n", {}),
        (f"text,category\nA,X/Y\nB,X/{missing}\n", {"path": "category", "separator": "/"}),
        (f"text,category\nA,X;Y\nB,X;{missing}\n", {"path": "category", "separator": "", "path_separator": ";"}),
    ):
        with pytest.raises(InputError, match=f":3: a label is '{missing}', as pandas writes what is missing"):
            load_table(write(tmp_path, content), **arguments)
    with pytest.raises(InputError, match=f":2: the text .column 'text'. is '{missing}', as pandas writes what is missing"):
        load_table(write(tmp_path, f"text,area\n{missing},X\n"))


@pytest.mark.parametrize("name", ["NA", "N/A", "#N/A", "None", "NULL", "null"])
def test_a_name_that_may_stand_for_none_is_reported(tmp_path, name, caplog):
    table = "text,area,topic\n" + "".join(f"A {n},X,{name if n % 2 else 'Y'}\n" for n in range(20))
    assert load_table(write(tmp_path, table)).hierarchy.names == ("X", "Y", name)
    assert f"{name!r} is taken for a label; if it stands for none" in caplog.text


@pytest.mark.parametrize(
    "labels", [["Health / Fitness", "R&B | Soul"], ["S00-T88", "and/or"], ["E11.9", "E11.65"], ["A, B", "C, D"]]
)
def test_labels_with_such_marks_are_labels(tmp_path, labels):
    assert load_table(write(tmp_path, in_cells("", cells=labels))).hierarchy.names == tuple(labels)


ROWS = [(f"A song {n}.", "Arts", "Music") if n % 2 else (f"An atom {n}.", "Science", "") for n in range(30)]


def lines(header, row, end="\n", start="", trailing=""):
    """A table of ROWS. Args: row: makes a line of the number and the cells."""
    return start + end.join([header, *(row(number, *cells) for number, cells in enumerate(ROWS))]) + end + trailing


def plain(number, text, area, topic):
    return f"{text},{area},{topic}"


READ = {  # tables that people have -> the file and what is given beside it
    "an index": (lines(",text,area,topic", lambda n, *cells: ",".join([str(n), *cells])), {}),
    "an index that was shuffled": (lines(",text,area,topic", lambda n, *cells: ",".join([str(97 * n % 31), *cells])), {}),
    "indices of tables put together": (lines(",text,area,topic", lambda n, *cells: ",".join([str(n % 15), *cells])), {}),
    "an index of names": (lines(",text,area,topic", lambda n, *cells: ",".join([f"report-{n}", *cells])), {}),
    "an index of dates": (lines(",text,area,topic", lambda n, *cells: ",".join([f"2024-01-{n + 1:02}", *cells])), {}),
    "an index whose name nobody sees": (lines("\u200b,text,area,topic", lambda n, *cells: ",".join([str(n), *cells])), {}),
    "names of columns with what nobody sees": (lines("\u200btext\xa0,area,topic\u2060", plain), {"levels": ["area", "topic"]}),
    "an index that pandas named": (lines("Unnamed: 0,text,area,topic", lambda n, *cells: ",".join([f"{n}", *cells])), {}),
    "two of them": (lines("Unnamed: 0.1,Unnamed: 0,text,area,topic", lambda n, *c: ",".join([f"{n},{n}", *c])), {}),
    "an index with decimals": (lines(",text,area,topic", lambda n, *cells: ",".join([f"{n}.0", *cells])), {}),
    "a separator at the end": (lines("text,area,topic,", lambda n, *cells: ",".join([*cells, ""])), {}),
    "several at the end": (lines("text,area,topic,,", lambda n, *cells: ",".join([*cells, "", ""])), {}),
    "separators below only": (lines("text,area,topic", lambda n, *cells: ",".join([*cells, "", ""])), {}),
    "separators above only": (lines("text,area,topic,,", plain), {}),
    "columns of one name that nobody uses": (
        lines("note,text,area,topic,note,", lambda n, *cells: ",".join(["x", *cells, "y", "z"])),
        {"levels": ["area", "topic"]},
    ),
    "short rows that lack what nobody uses": (lines("text,area,topic,note", plain), {"levels": ["area", "topic"]}),
    "lines of Windows": (lines("text,area,topic", plain, "\r\n"), {}),
    "lines of old Macs": (lines("text,area,topic", plain, "\r"), {}),
    "a byte order mark": (lines("text,area,topic", plain, start="\ufeff"), {}),
    "UTF-16": (lines("text,area,topic", plain, "\r\n").encode("utf-16"), {}),
    "Excel's first line": (lines("text;area;topic", lambda n, *cells: ";".join(cells), "\r\n", "sep=;\r\n"), {}),
    "Excel's first line with a mark": (lines("text;area;topic", lambda n, *cells: ";".join(cells), start="\ufeffSEP=;\n"), {}),
    "Excel's first line in quotes": (lines("text;area;topic", lambda n, *cells: ";".join(cells), start='"sep=;"\n'), {}),
    "Excel's first line for tabs": (lines("text\tarea\ttopic", lambda n, *cells: "\t".join(cells), "\r\n", "sep=\t\r\n"), {}),
    "bars by Excel's first line": (lines("text|area|topic", lambda n, *cells: "|".join(cells), start="sep=|\n"), {}),
    "blank lines": (lines("text,area,topic", lambda n, *c: plain(n, *c) + "\n\n", start="\n\n", trailing="\n,,\n ,,\n\n"), {}),
    "all in quotes": (lines('"text","area","topic"', lambda n, *cells: ",".join(f'"{cell}"' for cell in cells)), {}),
    "spaces": (lines(" text , area , topic ", lambda n, *cells: " , ".join(cells)), {}),
    "decomposed names of columns": (
        lines("re\u0301fe\u0301rence,area,topic", plain),
        {"text": "r\u00e9f\u00e9rence"},
    ),
}


@pytest.mark.parametrize("kind", READ)
def test_tables_that_people_have(kind, tmp_path):
    content, arguments = READ[kind]
    dataset = load_table(write(tmp_path, content), **arguments)
    assert dataset.texts == [text for text, _, _ in ROWS]
    assert dataset.hierarchy.paths == (("Science",), ("Arts",), ("Arts", "Music"))


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        (
            lines("text,area,topic,note,note", lambda n, *c: ",".join([*c, "y", "z"])),
            {},
            ":1: .*each its own, but 'note' is there twice",
        ),
        (
            lines("text,area,,topic", lambda n, *c: ",".join([*c[:2], "x", c[2]])),
            {},
            ":1: .*each its own, but column 3 has none",
        ),
        (lines("text,area,,topic", lambda n, *c: ",".join([*c[:2], f"{n % 3}", c[2]])), {}, ":1: .*but column 3 has none"),
        (lines("text,area,topic", lambda n, *cells: ",".join([*cells, "x"])), {}, ":2: the row has 4 cells, but there are 3"),
        (lines("text,area,topic,note", plain), {}, ":2: the row has 3 cells, but there are 4 columns"),
        (
            lines("text,area,topic,area", lambda n, *c: ",".join([*c, "z"])),
            {"levels": ["area"]},
            "2 are called 'area' .dataset.levels",
        ),
        (lines("text,text,topic", plain), {"levels": ["topic"]}, "2 are called 'text' .dataset.text"),
        (
            lines("text,area,topic", plain)[:-30] + "A song",
            {},
            ":30: the row has 2 cells, but there are 3 columns; is it cut off",
        ),
        (b"PK\x03\x04\x14\0", {}, "documents.csv: this is a ZIP archive, as .xlsx, .*save its content as CSV"),
        (b"\x1f\x8b\x08\0", {}, "documents.csv: this is compressed with gzip, .*unpack it"),
        (b"PAR1\x15\x04\x15\0", {}, "documents.csv: this is a Parquet file"),
        (lines("text,area,topic", plain).encode("utf-16-le"), {}, ":1: the table holds a NUL character"),
        (lines("text,area,topic", plain).encode("utf-16")[:-1], {}, "the table is not UTF-8 text"),
    ],
)
def test_tables_that_are_broken(tmp_path, content, arguments, message):
    with pytest.raises(InputError, match=message):
        load_table(write(tmp_path, content), **arguments)
