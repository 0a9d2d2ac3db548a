from rlkl_htc_common.report.figures import line_with_band, new_figure, to_svg
from rlkl_htc_common.report.page import Picture, Section, Table, markdown_table, write_report
from rlkl_htc_common.report.run_list import ListedRun, runs_section

TABLE = Table(["name", "score"], [["a <b>", "0.1"], ["c", "0.2"]], best={(1, 1)})


def test_a_report_is_one_file_and_escapes_text(tmp_path):
    figure, axes = new_figure()
    line_with_band(axes, [0, 1], [[0, 1], [1, 2]], "curve")
    svg = to_svg(figure)
    section = Section("Part", ["<script>alert(1)</script>"], [TABLE], [Picture(svg, "what it shows")])
    write_report(tmp_path / "report.html", "Title", "lead", [section], [("seed", "0")])
    page = (tmp_path / "report.html").read_text()
    assert "<script>alert" not in page
    assert "a &lt;b&gt;" in page
    assert svg in page
    assert '<td class="best">0.2</td>' in page
    assert "http-equiv" not in page
    assert "src=" not in page


def test_the_list_of_runs_shows_what_differs(tmp_path):
    shared = {"metrics": {"accuracy": 0.5}, "where": "runs/1"}
    runs = [
        ListedRun(name="a", settings={"seed": 0, "beta": 1.0, "same": 3}, command="train seed=0", **shared),
        ListedRun(name="b", settings={"seed": 1, "same": 3}, command="train 'x=<i>'", **shared | {"metrics": {}}),
    ]
    section = runs_section(runs)
    assert section.tables[0].columns == ["name", "seed", "beta", "accuracy", "run", "command"]
    assert section.tables[0].rows[0] == ["a", "0", "1.0", "0.500", "runs/1", "train seed=0"]
    assert section.tables[0].rows[1][2:4] == ["–", "–"]
    write_report(tmp_path / "report.html", "Title", "lead", [section], [])
    page = (tmp_path / "report.html").read_text()
    assert '<details class="part" id="the-2-runs"><summary><h2>The 2 runs</h2></summary>' in page
    assert '<a href="runs.csv">The rows as CSV</a>' in page
    assert (tmp_path / "runs.csv").read_text().splitlines()[1] == "a,0,1.0,0.500,runs/1,train seed=0"
    assert "<code>train &#39;x=&lt;i&gt;&#39;</code>" in page


def test_a_legend_shows_names_as_they_are():
    figure, axes = new_figure()
    axes.plot([1, 2], label="a $\\frac$ <b>")
    axes.legend()
    assert "a $\\frac$ &lt;b&gt;" in to_svg(figure)


def test_figures_are_reproducible():
    def draw():
        figure, axes = new_figure()
        axes.plot([1, 2, 3])
        return to_svg(figure)

    assert draw() == draw()


def test_markdown():
    assert markdown_table(TABLE).splitlines() == ["| name | score |", "|---|--:|", "| a <b> | 0.1 |", "| c | **0.2** |"]
    assert markdown_table(Table(["a|b"], [["c\n|d"]])).splitlines() == ["| a\\|b |", "|---|", "| c \\|d |"]
