"""The page: one file that nothing outside can reach into, that everybody can read, and that stays small."""

import base64
import hashlib
import itertools
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from regkit.page import build, page
from regkit.page.charts.figures import Curve, Curves
from regkit.page.charts.svg import STYLES
from regkit.page.document import Cell, Document, Grid, Note, Panel, Section
from regkit.page.page import html
from regkit.page.reading import found as reading
from tests.page.folders import difference, entry, write_run, write_study
from tests.page.test_svg import NASTY

VOID = {"meta", "link", "br", "hr", "img"}
STYLE = (Path(page.__file__).parent / "templates" / "page.css").read_text(encoding="utf8")


class Tree(HTMLParser):
    """Collects the elements of a page, and checks that each is closed where it should be."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str]]] = []
        self.inside: dict[str, str] = {}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.inside[self.open[-1]] = self.inside.get(self.open[-1], "") + data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.found if name == tag]


def page_of(*folders: Path) -> str:
    return html(build.document(reading.find(folders)))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A page with everything that needs no model: a study with a nasty row, and its runs."""
    place = tmp_path_factory.mktemp("page")
    rows = [
        {"name": "plain", "entries": [entry([0.5])]},
        {"name": NASTY, "entries": [entry([0.6], difference(0.1, 0.05, 0.2))]},
    ]
    study = write_study(place / "study", rows, [NASTY])
    for seed in (0, 1):
        write_run(study / f"plain-{seed}", seed=seed, tasks=("mood", NASTY[:200].replace("\ud800", "")))
    return page_of(study)


def test_no_text_of_others_is_markup_or_turns_the_direction_of_the_page(whole: str) -> None:
    tree = Tree(whole)
    assert tree.open == []
    assert not tree.all("script")
    assert "&lt;script&gt;" in whole
    assert "[U+202E]" in whole
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00-\x08\x0b-\x1f\ud800-\udfff]", whole)
    whole.encode()


def test_the_page_names_nothing_outside_itself(whole: str) -> None:
    tree = Tree(whole)
    for _, attributes in tree.found:
        for name in ("src", "href", "data", "action", "srcset", "poster"):
            assert attributes.get(name, "#").startswith(("#", "data:,"))
        assert not any(name.startswith("on") or name == "style" for name in attributes)
    assert not {"script", "img", "iframe", "object", "embed", "form", "base"} & {tag for tag, _ in tree.found}
    assert [each["rel"] for each in tree.all("link")] == ["icon"]
    assert not re.search(r"https?://|url\(|@import", whole)


def test_its_policy_forbids_all_but_its_own_style(whole: str) -> None:
    (policy,) = (
        each["content"] for each in Tree(whole).all("meta") if each.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none'; ")
    (style,) = re.findall("<style>(.*?)</style>", whole, re.DOTALL)
    assert f"style-src 'sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()}'" in policy


def test_headings_tables_and_charts_can_be_read_aloud(whole: str) -> None:
    tree = Tree(whole)
    levels = [int(tag[1]) for tag, _ in tree.found if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert len(tree.all("caption")) == len(tree.all("table"))
    assert {each.get("scope") for each in tree.all("th")} == {"col", "row"}
    ids = [attributes["id"] for _, attributes in tree.found if "id" in attributes]
    assert len(ids) == len(set(ids))
    charts = [each for each in tree.all("svg") if each.get("aria-hidden") != "true"]
    assert charts
    for chart in charts:
        assert chart["role"] == "img"
        assert set(chart["aria-labelledby"].split()) <= set(ids)
    for region in (each for each in tree.all("div") if each.get("class") == "scroll"):
        assert region["tabindex"] == "0"
        assert region["role"] == "region"
        assert region["aria-label"]
    assert {each["href"][1:] for each in tree.all("a")} <= set(ids)
    assert tree.all("html")[0]["lang"] == "en"


def luminance(colour: str) -> float:
    """Relative luminance, as WCAG 2 defines it."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def mixed(one: str, other: str, share: float) -> str:
    parts = ((int(one[at : at + 2], 16), int(other[at : at + 2], 16)) for at in (1, 3, 5))
    return "#" + "".join(f"{round(share * a + (1 - share) * b):02x}" for a, b in parts)


def seen_by_the_red_blind(colour: str) -> list[float]:
    """What is left of a colour in protanopia (Vienot et al., 1999), which confuses red and green."""
    red, green, blue = ((int(colour[place : place + 2], 16) / 255) ** 2.2 for place in (1, 3, 5))
    return [(0.1124 * red + 0.8876 * green) ** (1 / 2.2), max(0.004 * red - 0.004 * green + blue, 0.0) ** (1 / 2.2)]


SCHEMES = [
    dict(re.findall(r"--([\w-]+): (#\w{6})", block)) for block in re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)
]


@pytest.mark.parametrize("scheme", SCHEMES, ids=["light", "dark", "printed"])
def test_colours_have_the_contrast_of_wcag_aa(scheme: dict[str, str]) -> None:
    ground = scheme["ground"]
    for name in ("ink", "quiet", "link", "warn"):
        assert contrast(scheme[name], ground) >= 4.5, name
    assert contrast(scheme["ink"], scheme["warn-ground"]) >= 4.5
    for name in ("told", "untold", "muted", *(f"s{number}" for number in range(STYLES))):
        assert contrast(scheme[name], ground) >= 3, name
    for name in ("heat", "cold"):  # below the number of a cell, at most so strong
        assert contrast(scheme["ink"], mixed(scheme[name], ground, 0.72)) >= 4.5, name


@pytest.mark.parametrize("scheme", SCHEMES, ids=["light", "dark", "printed"])
def test_the_first_colours_differ_for_the_colour_blind_and_every_line_has_its_dashes(scheme: dict[str, str]) -> None:
    left = [seen_by_the_red_blind(scheme[f"s{number}"]) for number in range(3)]
    assert all(
        max(abs(a - b) for a, b in zip(left[one], left[two], strict=True)) > 0.07
        for one, two in ((0, 1), (0, 2), (1, 2))
    )
    dashes = dict(re.findall(r"\.line\.(s\d) \{ stroke-dasharray: ([\d. ]+);", STYLE))
    assert len(set(dashes.values())) == len(dashes) == STYLES - 2  # of whole lines there are two, far apart


def test_a_panel_has_a_legend_only_where_a_chart_has_several_lines() -> None:
    one = Curves("a", [Curve("x", [(0.0, 1.0)])])
    assert Panel("", [one, Curves("b", [Curve("y", [(0.0, 1.0)])])]).legend == []
    several = Curves("c", [Curve("x", [(0.0, 1.0)]), Curve("z", [(0.0, 1.0)], style=1), Curve("w", [], muted=True)])
    assert Panel("", [one, several]).legend == [("x", 0), ("z", 1)]
    assert "1 other, in grey" in html(Document("t", [], [Section("s", [Panel("p", [several])])]))


def test_a_page_of_sixty_tasks_is_whole_and_small(tmp_path: Path) -> None:
    text = page_of(write_run(tmp_path / "run", steps=600, tasks=[f"task {n} of sixty" for n in range(60)]))
    assert Tree(text).open == []
    assert len(text.encode()) < 1_000_000


@pytest.mark.slow
def test_a_page_of_a_hundred_runs_is_below_2_mb(tmp_path: Path) -> None:
    steps = 120
    for row in range(20):
        for seed in range(5):
            write_run(tmp_path / f"row{row}-{seed}", steps=steps, seed=seed, warmup=row / 100)
    size = len(page_of(tmp_path).encode())
    assert size < 2_000_000


def test_notes_tables_and_folded_parts_are_written() -> None:
    blocks = [
        Note(["one", "two"], warning=True),
        Note(["three"]),
        Grid("c", ["a", "b"], [["x", Cell("1", "2", strong=True)]], folded=True),
    ]
    tree = Tree(html(Document("title", ["lead"], [Section("part", blocks)])))
    assert len(tree.all("li")) == 2
    assert len(tree.all("details")) == 1
    assert [each.get("class") for each in tree.all("td")] == ["strong"]


def test_a_folded_table_can_be_opened_by_keyboard_and_is_printed_by_every_browser() -> None:
    """What is in a closed <details> is not printed by most: the table stands behind it, and is hidden on a screen alone."""
    text = html(Document("t", [], [Section("part", [Grid("c", ["a"], [["x"]], folded=True)])]))
    assert re.search(r'<details class="folded">\s*<summary>c</summary>\s*</details>\s*<div class="scroll"', text)
    hidden = ".folded:not([open]) + .scroll { display: none; }"
    assert f"@media not print {{ {hidden} }}" in text
    assert text.count(hidden) == 1


def test_texts_that_are_long_are_cut_and_say_how_long_they_are() -> None:
    from regkit.page.text import excerpt, visible

    assert excerpt("x" * 10_000).endswith("… (10,000 characters)")
    assert excerpt("short") == "short"
    assert (
        visible("a\u202eb\x00\n\U0001f468\u200d\U0001f469\ud800")
        == "a[U+202E]b[U+0000]\n\U0001f468\u200d\U0001f469[U+D800]"
    )
