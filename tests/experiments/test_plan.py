"""Plans: rows of sets, from a file and from a command line, and what is refused before anything is imported."""

from dataclasses import replace
from pathlib import Path

import pytest

from regkit.base.errors import RegkitError
from regkit.experiments import contest
from regkit.experiments.draft import Draft, read_draft, read_seeds
from regkit.experiments.plan import Cell, Plan, check_twins, made
from regkit.experiments.rows import Row, make_rows, parse_set
from regkit.runs.radii import RADII
from regkit.runs.settings import Settings

FILE = """\
encoder = "bert-tiny"
epochs = 4
learning_rate = 1e-4
seeds = [0, 7]
baseline = "plain"

[plugins.rrobin]

[subsample]
sst = 0.5

[rows.plain]

[rows.smart]
plugins.smart = { weight = 2 }

[rows."no turns"]
plugins.rrobin = false
dropout = 0
steps = 30
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "table.toml"
    path.write_text(text, encoding="utf8")
    return path


def read(folder: Path, text: str) -> Plan:
    draft = read_draft(write(folder, text))
    return made(draft, draft.settings, [], None, None, None)


def test_a_file_has_shared_settings_at_its_top_and_a_table_for_each_row(tmp_path: Path) -> None:
    plan = read(tmp_path, FILE)
    assert list(plan.rows) == ["plain", "smart", "no turns"]
    assert plan.cells()[:4] == [Cell("plain", 0), Cell("smart", 0), Cell("no turns", 0), Cell("plain", 7)]
    smart, none = plan.settings_of(Cell("smart", 7)), plan.settings_of(Cell("no turns", 0))
    assert (smart.seed, smart.learning_rate, smart.plugins) == (7, 1e-4, {"rrobin": {}, "smart": {"weight": 2}})
    assert (none.plugins, none.dropout, none.steps, none.subsample) == ({}, 0.0, 30, {"sst": 0.5})


def test_a_plan_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    plan = read(tmp_path, FILE)
    assert Plan.from_values(plan.as_values()) == plan
    assert read(tmp_path, plan.toml()) == plan
    for given, radii in (("true", RADII), ("[0.2, 0.05]", (0.05, 0.2)), ("false", ())):
        robust = read(tmp_path, f"robust = {given}\n{FILE}")
        assert robust == replace(plan, radii=radii)
        assert Plan.from_values(robust.as_values()) == robust == read(tmp_path, robust.toml())


def test_paths_in_a_row_of_a_file_start_at_its_folder(tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    plan = read(tmp_path, 'data = "all"\n[rows.less]\ndata = "some"\nencoder = "small"\n')
    less = plan.settings_of(Cell("less", 0))
    assert (less.data, less.encoder) == (tmp_path / "some", str(tmp_path / "small"))


def test_none_leaves_a_setting_out_also_one_with_a_value_for_each_task() -> None:
    shared = Settings.checked({"label_noise": {"sst": 0.2}, "dropout": 0.1}, "the test")
    found = made(Draft(), shared, ["label_noise=none+dropout=none"], None, None, None)
    settings = found.settings_of(Cell("label_noise=none+dropout=none", 0))
    assert (settings.label_noise, settings.dropout) == ({}, None)


def test_a_plain_row_is_added_as_the_baseline_where_there_is_none() -> None:
    plan = made(Draft(), Settings(), ["smart", "dropout=0"], "2", None, None)
    assert (list(plan.rows), plan.baseline, plan.seeds) == (["plain", "smart", "dropout=0"], "plain", (0, 1))
    assert list(made(Draft(), Settings(), ["smart", "rrobin"], None, None, "smart").rows) == ["smart", "rrobin"]


SETS: dict[str, tuple[dict[str, object], dict[str, object]]] = {
    "plain": ({}, {}),
    "smart": ({}, {"smart": {}}),
    "smart:epsilon=0.1,weight=2+rrobin": ({}, {"smart": {"epsilon": "0.1", "weight": "2"}, "rrobin": {}}),
    "dropout=0": ({"dropout": 0.0}, {}),
    "smart+learning_rate=1e+5": ({"learning_rate": 1e5}, {"smart": {}}),
    "dropout=none + pooling=cls": ({"dropout": None, "pooling": "cls"}, {}),
    "tasks=sst,sts": ({"tasks": ["sst", "sts"]}, {}),
    "subsample=sst=500": ({"subsample": {"sst": 500}}, {}),
    'torchjd:aggregator="a"': ({}, {"torchjd": {"aggregator": '"a"'}}),
}


@pytest.mark.parametrize("text", SETS)
def test_a_set_is_plugins_and_settings_joined_by_plus(text: str) -> None:
    row = parse_set(text)
    assert (row.name, row.settings, row.plugins) == (text, *SETS[text])


@pytest.mark.parametrize(
    ("making", "names"),
    [
        ("one-at-a-time", ["plain", "a", "b", "c"]),
        ("leave-one-out", ["all", "without a", "without b", "without c"]),
        ("grid", ["plain", "a", "b", "c", "a + b", "a + c", "b + c", "a + b + c"]),
    ],
)
def test_rows_are_made_of_sets(making: str, names: list[str]) -> None:
    plan = made(Draft(), Settings(), ["a", "b", "c"], None, making, None)
    assert sorted(plan.rows) == sorted(names)
    assert plan.baseline == names[0]
    rows = {row.name: list(row.plugins) for row in make_rows([parse_set(each) for each in "abc"], making)}  # type: ignore[arg-type]
    assert rows.get("without b", ["a", "c"]) == ["a", "c"]
    assert rows.get("a + c", ["a", "c"]) == ["a", "c"]


def test_a_grid_has_no_row_in_which_one_option_has_two_values() -> None:
    plan = made(Draft(), Settings(), ["smart:weight=1", "smart:weight=5", "dropout=0"], None, "grid", None)
    assert len(plan.rows) == 6  # and not 8
    plan = made(Draft(), Settings(), [f"p{number}" for number in range(9)], None, "grid", None)
    assert len(plan.rows) == 512


def test_folders_of_rows_differ_and_are_plain_names() -> None:
    names = ["smart", "Smart", "smart!", "smart?", "a/b", "..", "-", "x" * 300, "é", "a-", "smart:weight=2+dropout=0"]
    slugs = [Row(name).slug for name in names]
    assert len(set(slugs)) == len(names)
    assert slugs[0] == "smart"
    assert all("/" not in slug and slug not in ("", ".", "..") and len(slug) < 80 for slug in slugs)


@pytest.mark.parametrize(
    ("given", "seeds"), [("3", (0, 1, 2)), (2, (0, 1)), ("4,2", (4, 2)), ("7,", (7,)), ([5], (5,))]
)
def test_seeds_are_a_number_or_a_list(given: object, seeds: tuple[int, ...]) -> None:
    assert read_seeds(given, "--seeds") == seeds


@pytest.mark.parametrize(
    "given", ["0", 0, "a", "-1", [], [1, 1], "1,1", [-1], 1.5, True, [True], "5000", "1.5", ",", None]
)
def test_seeds_that_cannot_be_are_refused(given: object) -> None:
    with pytest.raises(RegkitError, match=r"^--seeds"):
        read_seeds(given, "--seeds")


def test_a_study_takes_more_rows_and_seeds_but_no_other_settings() -> None:
    def plan(*sets: str, seeds: str = "2", **shared: object) -> Plan:
        return made(Draft(), Settings(**shared), sets, seeds, None, None)  # type: ignore[arg-type]

    both = plan("smart").joined(plan("rrobin", seeds="3"), "s")
    assert (list(both.rows), both.seeds) == (["plain", "smart", "rrobin"], (0, 1, 2))
    assert plan("smart").joined(plan("smart", device="cpu", keep=5), "s").settings.keep == 5
    assert plan("smart", cuda_graphs=True).joined(plan("smart"), "s").settings.cuda_graphs  # as older studies note it
    with pytest.raises(RegkitError, match=r"^s has row 'plain' with epochs = 3, not 4; name another --output"):
        plan("smart").joined(plan("smart", epochs=4), "s")
    robust = replace(plan("smart"), radii=RADII)
    assert robust.joined(plan("rrobin"), "s").radii == RADII  # as the study has noted
    with pytest.raises(RegkitError, match=r"^s began without --robust, .* name another --output"):
        plan("smart").joined(robust, "s")
    with pytest.raises(RegkitError, match=r"^s began with attacks of 0\.03, 0\.1, .* name another --output"):
        robust.joined(replace(robust, radii=(0.2,)), "s")
    other = Plan.of(Draft(rows=[Row("smart", plugins={"smart": {"weight": 2}})]))
    with pytest.raises(RegkitError, match=r"^s has row 'smart' with plugins"):
        plan("smart").joined(other, "s")
    with pytest.raises(RegkitError, match=r"^s has other settings"):
        plan("smart", "dropout=0").joined(made(Draft(), Settings(epochs=4), ["epochs=3"], "2", None, "epochs=3"), "s")


TWINS = [
    ("[rows.a]\n[rows.b]", "rows 'a' and 'b'"),
    ("epochs = 3\n[rows.a]\ndropout = 0\n[rows.b]\nepochs = 3", "rows 'plain' and 'b'"),
    ("[rows.a.plugins.smart]\n[rows.b.plugins.smart]\nweight = 1", "rows 'a' and 'b'"),
    ("[rows.a.plugins.smart]\nweight = '3%'\n[rows.b.plugins.smart]\nweight = 'auto'", "rows 'a' and 'b'"),
    (
        "[rows.a.plugins.rrobin]\nstages = 'finetune'\n[rows.b.plugins.rrobin]\nstages = ['finetune']",
        "rows 'a' and 'b'",
    ),
    ("[rows.a.plugins.smart]\nepsilon = 1e-5\n[rows.b.plugins.smart]\nepsilon = '0.00001'", "rows 'a' and 'b'"),
]


@pytest.mark.parametrize(("text", "said"), TWINS)
def test_two_rows_whose_runs_are_the_same_are_refused_however_they_are_written(
    text: str, said: str, tmp_path: Path
) -> None:
    plan = read(tmp_path, text)
    with pytest.raises(RegkitError, match=f"^{said} do not differ; leave one of them out.$"):
        check_twins(plan, noted=())
    check_twins(plan, noted=plan.rows)  # what a study has goes on


@pytest.mark.parametrize(
    "text",
    [
        "[rows.a.plugins.smart]\nweight = 0.03\n[rows.b.plugins.smart]\nweight = '3%'",
        "[rows.a.plugins.smart]\n[rows.b.plugins.smart]\nweight = '3%'",
        "[rows.a.plugins.smart]\nweight = '5%'\n[rows.b.plugins.smart]\nweight = '3%'",
        "[rows.a.plugins.smart]\n[rows.b.plugins.smart]\nstages = 'domain'",
        "[rows.a.plugins]\nsmart = {}\nrrobin = {}\n[rows.b.plugins]\nrrobin = {}\nsmart = {}",  # the order counts
        "[rows.a.plugins.smrt]\nx = 1\n[rows.b.plugins.smrt]\nx = 1.0",  # the first run says what is wrong with it
    ],
)
def test_rows_that_may_differ_are_run(text: str, tmp_path: Path) -> None:
    check_twins(read(tmp_path, text), noted=())


def test_the_file_of_a_race_is_one_too(tmp_path: Path) -> None:
    race = contest.made(Draft(), Settings(), ["smart"], "4", None, None, 60.0)
    draft = read_draft(write(tmp_path, race.toml()))
    assert draft.race == 60.0
    assert contest.made(draft, draft.settings, [], None, None, None, draft.race) == race


REFUSED = {
    "robust = []\n[rows.a]\ndropout = 0": "robust is []; give numbers above 0, up to 1000, such as 0.03,0.1.",
    "robust = [0.1, nan]\n[rows.a]\ndropout = 0": "robust is [0.1, nan]; give numbers above 0",
    "robust = [0.1, 0.10]\n[rows.a]\ndropout = 0": "robust: a radius is given twice",
    "robust = [true]\n[rows.a]\ndropout = 0": "robust is [True]; give numbers above 0",
    'robust = "yes"\n[rows.a]\ndropout = 0': "robust is 'yes'; true, false, or a list of radii such as [0.03, 0.1] is needed.",
    "seed = 3\n[rows.a]\ndropout = 0": "a study has several seeds: seeds = 5, or seeds = [0, 1, 2].",
    "fresh_seeds = 3\n[rows.a]": "has no option 'fresh_seeds'. That is for regkit tune; leave it out here.",
    "epohcs = 3": "has no option 'epohcs'. Did you mean 'epochs'?",
    "rows = 3": "rows are tables, [rows.NAME]",
    "[rows]\na = 3": "rows are tables, [rows.NAME]",
    "[rows.a]\nepohcs = 3": "row 'a': there is no setting 'epohcs'. Did you mean 'epochs'?",
    "[rows.a]\nepochs = 0": "row 'a': epochs is 0; ",
    "[rows.a]\nseed = 1": "row 'a': every row is run with the same seeds",
    '[rows.a]\nencoder_factory = "a:b"': "row 'a': --encoder-factory is one for all rows.",
    "[rows.a]\nplugins.smart = 3": "row 'a': smart is 3; give its options",
    "[rows.a]\nplugins = 3": "row 'a': plugins is 3; give its options",
    'race = "long"\n[rows.a]': "race is 'long'; give a time, such as 1h, 45min or 1h30min.",
    "race = true\n[rows.a]": "race is True; give a time",
    "race = 0\n[rows.a]": "race is 0; give a time",
    "race = inf\n[rows.a]": "race is inf; give a time",
    'baseline = "smrt"\n[rows.smart.plugins.smart]': "the baseline 'smrt' is no row. Did you mean 'smart'?",
    "baseline = 3\n[rows.a]": "baseline is 3; a text is needed.",
    "storage = 3\n[rows.a]": "storage is 3; a text is needed.",
    'make = "grdi"\nof = ["a"]': "make is 'grdi'. Did you mean 'grid'?",
    'make = "grid"': 'make = "grid", or another way, and of = ["smart", "rrobin"] go together.',
    'of = ["a"]': 'make = "grid", or another way, and of = ["smart", "rrobin"] go together.',
    'make = "grid"\nof = [["a"]]': "of is [['a']]; a list of sets is needed",
    'make = 3\nof = ["a"]': "make is 3. Available",
    'make = "leave-one-out"\nof = ["a:x=1", "a:x=2"]': "two of them give one thing two values",
    'make = "grid"\nof = ["plain"]': "grid makes rows of sets of plugins and settings, and none is given.",
    f'make = "grid"\nof = {[f"p{n}" for n in range(10)]}': "a grid of 10 sets has 1024 rows, and 512 are the most.",
    'make = "one-at-a-time"\nof = ["a", "a"]': "two rows are called 'a'",
    "seeds = 0\n[rows.a]": "seeds is 0; give a number from 1 to 1000, or a list.",
    "epochs =": "cannot be read: ",
    "epochs = 4": "there is nothing to compare",
}


@pytest.mark.parametrize("text", REFUSED)
def test_a_file_that_says_nothing_clear_is_refused_in_a_sentence(text: str, tmp_path: Path) -> None:
    with pytest.raises(RegkitError) as refused:
        read(tmp_path, text)
    assert REFUSED[text] in str(refused.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("smart+smart", "-p smart+smart: smart is given twice."),
        ("dropout=0+dropout=1", "dropout is given twice."),
        ("", "a set is made of plugins and settings"),
        ("dorpout=0", "there is no setting 'dorpout'. Did you mean 'dropout'?"),
        ("dropout=2", "dropout is '2'"),
        ("seed=1", "every row is run with the same seeds"),
        ("smart:weight", "is not of the form option=value."),
    ],
)
def test_a_set_that_says_nothing_clear_is_refused_in_a_sentence(text: str, said: str) -> None:
    with pytest.raises(RegkitError, match=r"^[^\n]+$") as refused:
        parse_set(text)
    assert said in str(refused.value)
