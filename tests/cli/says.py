"""What regkit says when: what is arranged, the command, the sentence. `python -m tests.cli.says`

Every command finds a folder in which everything is right - `encoder`, `data` and a finished `run` - but for what a case changes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.helpers import TASKS

MOOD = TASKS.partition("[tasks.same]")[0]
NEAR = TASKS[TASKS.index("[tasks.near]") :]
HEADER = "id,sentence,mood\n"
ANNOUNCE = (
    "from dataclasses import dataclass\nfrom regkit import hookimpl\n\n@dataclass\nclass Plugin:\n    @hookimpl\n"
)
Content = str | bytes | None


@dataclass(frozen=True)
class Case:
    """A command, what is unusual about the files it finds, and what must be said."""

    name: str
    command: tuple[object, ...]
    says: str | tuple[str, ...]  # parts of the sentence, in their order
    files: Mapping[str, Content] = field(default_factory=dict)  # by path; None removes
    plugins: Mapping[str, str] = field(default_factory=dict)  # modules of strangers, by name

    def __str__(self) -> str:
        return self.name


def train(name: str, *more: object, says: str | tuple[str, ...], **files: Any) -> Case:
    return Case(name, ("train", "--encoder", "encoder", "--data", "data", "--steps", 2, *more), says, **files)


def ablate(name: str, *more: object, says: str | tuple[str, ...]) -> Case:
    return Case(name, ("ablate", "--encoder", "encoder", "--data", "data", *more), says)


def config(name: str, text: Content, says: str | tuple[str, ...]) -> Case:
    command = ("train", "c.toml", "--encoder", "encoder", "--data", "data", "--tasks", "mood", "--dry-run")
    return Case(name, command, ("c.toml", says) if isinstance(says, str) else says, {"c.toml": text})


def declared(name: str, text: Content, says: str | tuple[str, ...]) -> Case:
    """A tasks.toml that cannot be."""
    parts = (says,) if isinstance(says, str) else says
    return train(f"tasks.toml: {name}", says=("data/tasks.toml", *parts), files={"data/tasks.toml": text})


def data(name: str, text: Content, says: str) -> Case:
    """A training file of the task `mood` that cannot be read."""
    return train(f"data: {name}", says=f"data/mood-train.csv{says}", files={"data/mood-train.csv": text})


def lines(name: str, text: str, says: str) -> Case:
    files = {"data/tasks.toml": MOOD.replace("-train.csv", "-train.jsonl").replace("id = ", "# ")}
    return train(f"data: {name}", says=f"data/mood-train.jsonl{says}", files=files | {"data/mood-train.jsonl": text})


def encoder(name: str, files: Mapping[str, Content], *says: str) -> Case:
    found = {f"encoder/{path}": content for path, content in files.items()}
    return train(f"encoder: {name}", says=("encoder", *says), files=found)


def evaluate(name: str, *more: object, says: str | tuple[str, ...], files: Mapping[str, Content] | None = None) -> Case:
    return Case(f"eval: {name}", ("eval", "run", *more), says, files or {})


OPTIONS = "Available: epsilon, eta, sigma, stages, steps, unit, weight."
COMMAND_LINE = [
    train("unknown option", "--epcohs", 3, says="there is no option --epcohs. Did you mean '--epochs'? Available: --batch-size, --clip, "),
    train("unknown switch", "--no-finetnue", says="there is no option --no-finetnue. Did you mean '--no-finetune'? "),
    train("short option", "-x", says="there is no option -x. Available: "),
    train("option of another program", "--gradient-accumulation-steps", 4, says="there is no option --gradient-accumulation-steps. --micro-batch-tokens does that: "),
    train("option of another program, underlined", "--per_device_train_batch_size=4", says="there is no option --per_device_train_batch_size. --batch-size is its name here: "),
    Case("option of another program, elsewhere", ("eval", "--warmup-ratio", "0.1"), "there is no option --warmup-ratio. Available: "),
    train("warmup of everything", "--warmup", 1, says="--warmup is '1'; input should be less than 1."),
    train("dropout of nothing", "--dropout", "nothing", says="--dropout is 'nothing'; input should be a valid number"),
    train("unknown precision", "--precision", "fp16", says="--precision is 'fp16'; input should be 'auto', 'bf16' or 'fp32'."),
    train("unknown unit of memory", "--memory", "2 elephants", says="--memory is '2 elephants'; give bytes, or a number with "),
    train("seed not whole", "--seed", 1.5, says="--seed is '1.5'; input should be a valid integer"),
    Case("unknown option of a setting", ("settings", "--lerning-rate"), "there is no setting '--lerning-rate'. Did you mean '--learning-rate'? Available: --batch-size, "),
    Case("the page of all settings, and one of them", ("settings", "warmup", "--markdown"), "--markdown prints the page of all settings; leave warmup or --markdown out."),
    Case("a missing option with choices", ("plugins", "new", "mine"), "missing option '--kind'. Choose from: regularizer, scheduler, "),
    Case("a plugin's name where its file may be allowed", ("eval", "run", "-p", "smart:weight=3"), "--plugin smart:weight=3: a file is needed, FILE.py, whose code may be run; a run has its own plugins."),
    Case("a corpus twice", ("pretrain", "--corpus", "a.txt", "--encoder", "encoder", "-p", "domain:corpus=b.txt"), "--corpus and --plugin domain:corpus are both given; leave one of them out."),
    Case("a row with no table of plugins", ("ablate", "s.toml", "--encoder", "encoder", "--data", "data", "--dry-run"), ("s.toml: ", "plugins is False; give its options"), {"s.toml": "[rows.a]\nplugins = false\n"}),
    Case("unknown setting", ("settings", "lerning_rate"), "there is no setting 'lerning_rate'. Did you mean 'learning_rate'? Available: batch_size, "),
    train("text for a number", "--epochs", "three", says=("--epochs", "valid integer")),
    train("a missing value", "--epochs", says="--epochs"),
    train("one argument too many", "a.toml", "b.toml", says="b.toml"),
    Case("unknown command", ("trian",), "there is no command 'trian'. Did you mean 'train'? Available: ablate, average, clean, data, eval, explain, export, plugins, predict, pretrain, profile, report, runs, settings, train, tune, work."),
    train("two lengths", "--epochs", 3, says="the command line: epochs and steps both say how long a run is; leave one of them out."),
    train("a task twice", "--tasks", "mood,same,mood", says="tasks names 'mood' twice; leave one of them out."),
    train("a switch on and off", "--finetune", "--no-finetune", says="--finetune and --no-finetune are both given; leave one of them out."),
    Case("unknown split", ("eval", "run", "--split", "val"), ("invalid value for '--split': 'val'", "train", "dev", "test")),
    train("no epochs", "--epochs", 0, says=("regkit: --epochs is '0'; ", "greater than or equal to 1")),
    train("negative epochs", "--epochs", -1, says="--epochs is '-1';"),
    train("no steps", "--steps", 0, says="--steps is '0';"),
    train("no batch", "--batch-size", 0, says="--batch-size is '0';"),
    train("negative batch", "--batch-size", -8, says="--batch-size is '-8';"),
    train("no learning rate", "--lr", 0, says="--learning-rate is '0';"),
    train("negative learning rate", "--lr", -1, says="--learning-rate is '-1';"),
    train("learning rate nan", "--lr", "nan", says=("--learning-rate is 'nan';", "finite")),
    train("learning rate inf", "--lr", "inf", says=("--learning-rate is 'inf';", "finite")),
    train("learning rate 1e999", "--lr", "1e999", says=("--learning-rate is '1e999';", "finite")),
    train("unknown score to monitor", "--monitor", "mood.acuracy", says=("monitor is 'mood.acuracy', and there is no such score. Did you mean 'mood.accuracy'? ", "mean")),
    train("score of an unknown task", "--monitor", "mod.accuracy", says="monitor is 'mod.accuracy', and there is no such score. "),
    train("score that the dev labels do not define", "--monitor", "same.auc", says="monitor is 'same.auc', which needs dev labels that differ. Did you mean 'same.f1'? Available: mean, ",
          files={"data/same-dev.csv": "one,two,same\na,b,1\nb,c,1\n"}),
    train("score to monitor without a task", "--monitor", "accuracy", "--dry-run", says="monitor is 'accuracy', and there is no such score. "),
    train("one checkpoint", "--keep", 1, says="--keep is '1'; "),
    train("no patience", "--patience", 0, says="--patience is '0'; "),
    train("negative minutes", "--save-minutes", -1, says="--save-minutes is '-1'; "),
    train("resume auto without a folder", "--resume", "auto", says="--resume auto needs --output: "),
    train("resume of nothing", "--resume", "rnu", says="there is no run rnu. Did you mean 'run'? "),
    train("resume of another folder", "--resume", "run", "--output", "mine", says="a run goes on in its own folder; leave out --output mine, or --resume run."),
    train("resume of no run", "--resume", "data", says="data is not a run: it has no config.toml."),
    train("resume auto of something else", "--resume", "auto", "--output", "data", says="data exists already; "),
    train("a run's folder again", "--output", "run", says="run is a run already; go on with it by --resume run, or name another --output."),
    train("unknown device", "--device", "gpu", says=("there is no device 'gpu' here. ", "Available: auto, cpu")),
    train("a second CPU", "--device", "cpu:1", says="there is no device 'cpu:1' here. Did you mean 'cpu'? "),
    train("a value for a switch", "--cuda-graphs=on", says="--cuda-graphs is a switch, and has no value; leave that out, or "),
    train("a value for another", "--dry-run=1", says="--dry-run is a switch, and has no value; leave that out."),
    train("a word after a switch", "--cuda-graphs", "on", says="on does not exist; a switch has no value, and --no-NAME "),
    train("device without a number", "--device", "cpu:x", says="there is no device 'cpu:x' here. "),
    train("unknown task", "--tasks", "mod", says="there is no task 'mod'. Did you mean 'mood'? Available: mood, near, same."),
    train("no task", "--tasks", "", says="there is no task ''. Available: mood, near, same."),
    train("no task after a comma", "--tasks", "mood,", says="there is no task ''. "),
    train("output taken", "--output", "data", says="data exists already; name another --output, or remove it."),
    train("output is a file", "--output", "data/tasks.toml", says="data/tasks.toml exists already; "),
    train("output below a file", "--output", "data/tasks.toml/run", says="data/tasks.toml"),
    train("dry run, output below a file", "--dry-run", "--output", "data/tasks.toml/run", says="data/tasks.toml"),
    train("runs is a file", says="runs is no folder, so no run can begin in runs; name another --output.", files={"runs": "a file"}),
    train("a run with a blank in its name", "--output", "my run", says="my run is a run already; go on with it by --resume 'my run', or name another --output.", files={"my run/config.toml": ""}),
    train("resume of another folder with a blank in its name", "--resume", "run", "--output", "my run", says="leave out --output 'my run', or --resume run."),
    train("no such data", "--data", "nowhere", says="nowhere does not exist; --data takes a table, a folder, or a TOML file"),
    train("an empty list of rows", "--data", "e.json", files={"e.json": "[]"}, says="e.json has no columns, and a task needs those "),
    train("rows without columns", "--data", "e.jsonl", files={"e.jsonl": "{}\n{}\n"}, says="e.jsonl has no columns, and a task "),
    train("a table whose columns have unusual names", "--data", "data/near-train.csv", says=("data/near-train.csv: name the columns by --text COLUMN. Available: one, two, score.")),
    train("a folder without known files", "--data", "encoder", says=("encoder has neither a tasks.toml nor any of the files ids-sst-train.csv, ")),
    train("no such encoder", "--encoder", "./nowhere", says="there is no encoder folder ./nowhere."),
    train("a file for an encoder", "--encoder", "./encoder/config.json", says="there is no encoder folder ./encoder/config.json."),
    train("a folder that is no encoder", "--encoder", "data", says=("data has no tokenizer: ", "tokenizer.json", "vocab.txt")),
    train("loss not finite", "--lr", "1e30", "--output", "taken/out", says=("task '", "learning rate")),
]  # fmt: skip

PLUGINS = [
    train("unknown plugin", "-p", "smrt", says=("there is no plugin 'smrt'. Did you mean 'smart'? Available: ", "smart")),
    train("plugin without a name", "-p", ":weight=3", says="there is no plugin ''. "),
    train("empty plugin", "-p", "", says="there is no plugin ''. "),
    train("a plugin's option as TOML has it", "-p", "rrobin.stop=shortest", says="--plugin rrobin.stop=shortest: an option follows a colon; write rrobin:stop=shortest."),
    train("an entry of a plugin's option as TOML has it", "-p", "fixed_weights.weights.mood=2", says='write fixed_weights:weights={"mood": 2}.'),
    train("an option as TOML has it, of an unknown plugin", "-p", "smrt.weight=2", says="there is no plugin 'smrt'. Did you mean 'smart'?"),
    train("a setting for a plugin", "-p", "lr=1e-3", says="--plugin lr=1e-3: learning_rate is a setting, and no plugin; give --learning-rate 1e-3."),
    train("an entry of a setting for a plugin", "-p", "subsample.mood=9", says="give --subsample mood=9."),
    ablate("an option in a set as TOML has it", "-p", "rrobin.stop=shortest", says="an option follows a colon; write rrobin:stop=shortest."),
    ablate("an entry of a setting in a set as TOML has it", "-p", "subsample.mood=9", says="-p subsample.mood=9: subsample is a setting; write subsample=mood=9."),
    ablate("an option of plain", "-p", "plain:weight=2", says="-p plain:weight=2: plain is the shared settings alone, and no plugin; it has no options."),
    ablate("two lengths in a set", "-p", "epochs=2+steps=3", says="-p epochs=2+steps=3: epochs and steps both say how long a run is; leave one of them out."),
    ablate("two rows that differ in how they are written", "-p", "smart", "-p", "smart:weight=1.0", says="rows 'smart' and 'smart:weight=1.0' do not differ; leave one of them out."),
    ablate("a plugin in a set as a setting", "-p", "plugins=smart", says="-p plugins=smart: a plugin stands there by its own name, such as smart:weight=2."),
    ablate("another dev split in a set", "-p", "dev=0.5", says="-p dev=0.5: every row is scored on the same examples and labels, which --dev names for all."),
    ablate("another label in a set", "-p", "label=x", says="-p label=x: every row is scored on the same examples and labels, which --label names for all."),
    ablate("noted labels in a set", "-p", "labels=x", says="-p labels=x: there is no setting 'labels'. Did you mean 'label"),
    ablate("a short name of a setting in a set", "-p", "lr=1e-3", says="there is no setting 'lr'. Did you mean 'learning_rate'?"),
    train("unknown plugin option", "-p", "smart:wieght=3", says=f"'smart' has no option 'wieght'. Did you mean 'weight'? {OPTIONS}"),
    train("option of the wrong type", "-p", "smart:weight=abc", says=("'smart': weight is 'abc'; input should be a valid number",)),
    train("option that is a list", "-p", "smart:weight=[1]", says="'smart': weight is [1]; input should be a valid number"),
    train("empty option", "-p", "smart:weight=", says="'smart': weight is ''; "),
    train("option not whole", "-p", "smart:steps=1.5", says="'smart': steps is '1.5'; input should be a valid integer"),
    train("option out of range", "-p", "smart:weight=-1", says="'smart': weight is '-1'; input should be greater than or equal to 0."),
    train("option nan", "-p", "smart:weight=nan", says="'smart': weight is 'nan'; input should be a finite number."),
    train("option inf", "-p", "smart:weight=inf", says="'smart': weight is 'inf'; input should be a finite number."),
    train("unknown choice", "-p", "rrobin:stop=soon", says="'rrobin': stop is 'soon'; input should be 'longest' or 'shortest'."),
    train("missing option", "-p", "only", says="'only' needs task: --plugin only:task=STR."),
    train("option without a value", "-p", "smart:weight", says="--plugin smart:weight: 'weight' is not of the form option=value."),
    train("pair mode of a task of one text", "--pair-mode", "mood=bi_encoder", says="pair_mode: task 'mood' reads one text, and no pair; leave it out."),
    train("pair mode of no task", "--pair-mode", "mod=bi_encoder", says="pair_mode: there is no task 'mod'. Did you mean 'mood'? "),
    train("pair mode without a task", "--pair-mode", "bi_encoder", says="--pair-mode is ['bi_encoder']; give TASK=MODE, such as sts=bi_encoder."),
    train("subsample of no task", "--subsample", "mod=3", says="subsample: there is no task 'mod'. Did you mean 'mood'? "),
    train("label noise of no task", "--label-noise", "mod=0.2", says="label_noise: there is no task 'mod'. Did you mean 'mood'? "),
    train("label noise in rows", "--label-noise", "mood=20", says="label_noise.mood is '20'; give the share of its training labels that are replaced, from 0 to 1."),
    train("option without a name", "-p", "smart:=3", says="'=3' is not of the form option=value."),
    train("option twice", "-p", "smart:weight=1,weight=2", says="weight is given twice."),
    train("plugin twice", "-p", "smart", "-p", "smart:weight=1", says="--plugin smart is given twice; one plugin has one instance a run."),
    train("unknown task of a plugin", "-p", "only:task=mod", says=("'only'", "no task 'mod'. Did you mean 'mood'? Available: mood, near, same.")),
    train("unknown task of a plugin, dry run", "--dry-run", "-p", "only:task=mod", says="no task 'mod'. Did you mean 'mood'?"),
    train("two deciders", "-p", "rrobin", "-p", "only:task=mood", says=("'rrobin' and 'only' both decide ", "; keep one of them.")),
    train("nothing to train", "-p", "freeze", says=("'near'", "frozen", "cross_encoder")),
    train("unknown hook", "-p", "x", says="plugin 'x' implements 'after_stp', which is no hook. Did you mean 'after_step'? ",
          plugins={"x": ANNOUNCE + "    def after_stp(self): ...\n"}),
    train("unknown argument", "-p", "x", says="plugin 'x': after_step has no argument 'stp'. Did you mean 'step'? Available: losses, model, reevaluate, step, total_steps.",
          plugins={"x": ANNOUNCE + "    def after_step(self, stp): ...\n"}),
    train("argument with a default", "-p", "x", says="plugin 'x': after_step: 'step' must be plain, without * or a default.",
          plugins={"x": ANNOUNCE + "    def after_step(self, step=0): ...\n"}),
    train("plugin without hooks", "-p", "x", says="plugin 'x' attaches to no hook; ",
          plugins={"x": ANNOUNCE.rpartition("    @hook")[0] + "    a: int = 1\n"}),
    train("plugin that is no dataclass", "-p", "x", says="plugin 'x': stranger_x:Plugin is not a dataclass.",
          plugins={"x": "class Plugin: ...\n"}),
    train("plugin that raises at import", "-p", "x",
          says=("plugin 'x' (stranger_x:Plugin) cannot be imported: RuntimeError: no licence (", "stranger_x.py, line 2)."),
          plugins={"x": "\nraise RuntimeError('no licence')\n"}),
    train("plugin with a syntax error", "-p", "x", says="plugin 'x' (stranger_x:Plugin) cannot be imported: SyntaxError: ",
          plugins={"x": "class\n"}),
    train("plugin that raises when it is made", "-p", "x", says=("'x'", "no licence"),
          plugins={"x": ANNOUNCE + "    def after_step(self): ...\n    def __post_init__(self):\n        raise RuntimeError('no licence')\n"}),
    train("plugin that raises when it prepares", "-p", "x", says=("plugin 'x' failed in prepare at ", "KeyError: 'bert' (", "line 7)."),
          plugins={"x": ANNOUNCE + "    def prepare(self, model): {}['bert']\n"}),
]  # fmt: skip

CONFIGS = [
    Case("config: missing", ("train", "c.toml"), "c.toml does not exist."),
    Case("config: a folder", ("train", "data"), "data is a folder; for data, give --data data."),
    Case("config: a run's folder", ("train", "run"), "run is a folder; its settings are run/config.toml."),
    Case("config: a table", ("train", "data/mood-train.csv"), "; for a table, give --data data/mood-train.csv."),
    Case("config: tasks", ("train", "data/tasks.toml"), "declares tasks, and is no file of settings; give --data data/tasks.toml."),
    Case("config: tasks for a study", ("ablate", "data/tasks.toml", "-p", "smart"), "; give --data data/tasks.toml."),
    Case("config: tasks for a search", ("tune", "data/tasks.toml"), "; give --data data/tasks.toml."),
    config("config: not TOML", "epochs = ", "cannot be read: "),
    config("config: binary", b"\xff\xfe", "cannot be read: "),
    config("config: a setting's name elsewhere", "lr = 1e-3", "has no option 'lr'. Did you mean 'learning_rate'? "),
    config("config: unknown key", "epcohs = 3", "has no option 'epcohs'. Did you mean 'epochs'? Available: batch_size, "),
    config("config: wrong type", 'epochs = "three"', "epochs is 'three'; input should be a valid integer"),
    Case("config: no task", ("train", "c.toml", "--encoder", "encoder", "--data", "data"), "tasks is []; name at least one, or leave it out to train all. Available: mood, near, same.", {"c.toml": "tasks = []"}),
    config("config: true for a whole number", "batch_size = true", "c.toml: batch_size is True; a number is needed, and not true or false."),
    config("config: false for a number", "learning_rate = false", "learning_rate is False; "),
    config("config: true for a plugin's number", "[plugins.smart]\nweight = true", ("'smart': weight is True; a number is needed, and not true or false.",)),
    config("config: text for a list", 'tasks = "mood"', "tasks is 'mood'; input should be a valid list."),
    config("config: list for plugins", 'plugins = ["smart"]', "plugins is ['smart']; a table is needed: {NAME = VALUE} in a file, "),
    config("config: number for a plugin", "[plugins]\nsmart = 3", "plugins.smart is 3; a table is needed: {NAME = VALUE} in a file, "),
    *(config(f"config: {text}", text, f"{text.replace(' =', ' is')};") for text in (
        "epochs = 0", "steps = -1", "batch_size = 0", "learning_rate = nan", "learning_rate = inf", "weight_decay = nan",
        "weight_decay = inf", "clip = nan", "clip = inf", "clip = -1", "warmup = 1", "warmup = nan", "dropout = 1",
        "max_length = 7", "micro_batch_tokens = 0", "precision = 'fp16'", "seed = 1.5", "seed = inf")),
    config("config: unknown plugin", "[plugins.smrt]", ("there is no plugin 'smrt'. Did you mean 'smart'? ",)),
    config("config: unknown plugin option", "[plugins.smart]\nwieght = 1", ("'smart' has no option 'wieght'. ",)),
    config("config: plugin option inf", "[plugins.smart]\nweight = inf", ("'smart': weight is inf; ",)),
    config("config: plugin option nan", "[plugins.smart]\nweight = nan", ("'smart': weight is nan; ",)),
    Case("config: no such data", ("train", "c.toml"), "nowhere does not exist; ", {"c.toml": 'data = "nowhere"'}),
    Case("config: right, command line wrong", ("train", "c.toml", "--epochs", 0), "--epochs is '0';", {"c.toml": "epochs = 3"}),
]  # fmt: skip

DECLARED = [
    declared("syntax", "[tasks", "cannot be read: "),
    declared("binary", b"\xff\xfe", "cannot be read: "),
    declared("a task twice", MOOD + MOOD, "cannot be read: "),
    declared("empty", "", "declares no task; it holds one table [tasks.NAME] a task."),
    declared("no tasks", "[tasks]", "declares no task; "),
    declared("a list of tasks", "tasks = [1]", "declares no task; "),
    declared("a number for a task", "[tasks]\nmood = 3", ("task 'mood'", "table")),
    declared("another table", "[task.mood]\n" + MOOD, "has an unknown table 'task'; "),
    declared("unknown key", MOOD + 'trian = "x"', "task 'mood' has no option 'trian'. Did you mean 'train'? Available: batch_size, "),
    declared("unknown kind", MOOD.replace("classif", "clasif"), ("task 'mood': kind is 'clasification'; input should be 'classification', 'binary', 'regression', 'multilabel', 'ordinal' or 'soft'.")),
    declared("no text", MOOD.replace("text = ", "# "), "task 'mood' needs 'text'."),
    declared("no label", MOOD.replace("label = ", "# "), "task 'mood' needs 'label'."),
    declared("no train", MOOD.replace("train = ", "# "), "task 'mood' needs 'train', a file of labelled examples."),
    declared("one class", MOOD.replace("classes = 3", "classes = 1"), "task 'mood': classes is 1; "),
    declared("no names", MOOD.replace("classes = 3", "classes = []"), "task 'mood': classes is []; "),
    declared("a name twice", MOOD.replace("classes = 3", "classes = ['0', '0']"), ("task 'mood'", "'0'", "twice")),
    declared("range reversed", NEAR.replace("[0, 5]", "[5, 0]"), "task 'near': range needs its lowest value first, "),
    declared("empty range", NEAR.replace("[0, 5]", "[1, 1]"), "task 'near': range needs its lowest value first, "),
    declared("half a range", NEAR.replace("[0, 5]", "[0]"), "task 'near': range is [0]; "),
    declared("a long range", NEAR.replace("[0, 5]", "[0, 1, 2]"), "task 'near': range is [0, 1, 2]; "),
    declared("an endless range", NEAR.replace("[0, 5]", "[0, inf]"), ("task 'near': range", "is inf; ")),
    declared("range of nan", NEAR.replace("[0, 5]", "[nan, 1]"), "task 'near': range"),
    declared("a number for text", MOOD.replace('"sentence"', "3"), "task 'mood': text is 3; "),
    declared("three texts", MOOD.replace('"sentence"', '["a", "b", "c"]'), "task 'mood': text is ['a', 'b', 'c']; "),
    declared("pair mode of one text", MOOD + 'pair_mode = "bi_encoder"', "task 'mood': pair_mode is for pairs: text needs two columns."),
    declared("unknown pair mode", NEAR.replace("bi_encoder", "bi"), "task 'near': pair_mode is 'bi'; input should be 'cross_encoder' or 'bi_encoder'."),
    declared("true for a batch", MOOD + "batch_size = true", "task 'mood': batch_size is True; a number is needed, and not true or false."),
    declared("no batch", MOOD + "batch_size = 0", "task 'mood': batch_size is 0; "),
    declared("bad name", MOOD.replace("tasks.mood", "tasks.'a/b'"), "task 'a/b': a name is made of letters, digits, _ and -, and begins with a letter."),
    train("tasks.toml: a name that a module has", says="a task cannot be called 'train'; ", files={"data/tasks.toml": MOOD.replace("tasks.mood", "tasks.train")}),
    train("tasks.toml: missing file", says="data/mood-train.csv does not exist.", files={"data/mood-train.csv": None}),
    train("tasks.toml: missing dev file", says="data/near-dev.csv does not exist.", files={"data/near-dev.csv": None}),
    train("tasks.toml: a web page for a table", says="data/mood-train.csv is an HTML page and not a table; perhaps the download needed a login.",
          files={"data/mood-train.csv": "<!doctype html>"}),
    train("tasks.toml: a folder for a file", says="data/folder.csv cannot be read: Is a directory.",
          files={"data/tasks.toml": MOOD.replace("mood-train.csv", "folder.csv"), "data/folder.csv/x": "x"}),
    train("tasks.toml: missing column", says="data/mood-train.csv has no column 'sentense'. Did you mean 'sentence'? Available: id, mood, sentence.",
          files={"data/tasks.toml": MOOD.replace('"sentence"', '"sentense"')}),
]  # fmt: skip

DATA = [
    data("missing label column", "id,sentence,moood\n1,a,0\n", " has no column 'mood'. Did you mean 'moood'? Available: id, moood, sentence."),
    data("label out of range", HEADER + "1,a,0\n2,b,3\n", ", line 3: mood is '3'; a whole number from 0 to 2 is needed."),
    data("label not a number", HEADER + "1,a,0\n2,b,x\n", ", line 3: mood is 'x'; a whole number from 0 to 2 is needed."),
    data("label empty", HEADER + "1,a,0\n2,b,\n", ", line 3: mood is ''; a whole number from 0 to 2 is needed; skip_empty = true leaves such rows out."),
    data("label of two lines", HEADER + '1,a,0\n2,b,"x\ny"\n', ", line 3: mood is 'x"),
    data("label with a control character", HEADER + "1,a,0\n2,b,\x1b[31mred\n", ", line 3: mood is '"),
    data("text empty", HEADER + "1,a,0\n2, ,1\n", ", line 3: sentence is empty; skip_empty = true leaves such rows out."),
    data("one class", HEADER + "1,a,1\n2,b,1\n", ": every mood is 1; nothing can be learned from it."),
    data("one row", HEADER + "1,a,1\n", ": every mood is 1; nothing can be learned from it."),
    data("empty", "", " is empty."),
    data("header only", HEADER, " has no rows."),
    data("binary", HEADER.encode() + b"1,a,0\n2,\x81,1\n", ", line 3: byte 0x81 is not UTF-8 text; if it has another encoding, name it in tasks.toml: encoding = '...'."),
    data("quote never closed", HEADER + '1,a,0\n2,"b,1\n3,c,0\n', ", line 3: unexpected end of data; if quotes in this file mean nothing, set quoting = false"),
    data("text after a quote", HEADER + '1,a,0\n2,"b" c,1\n', ", line 3: ',' expected after '\"'; if quotes "),
    data("too many fields", HEADER + "1,a,0\n2,b,c,1\n", ", line 3: 4 fields; the header has 3."),
    data("too few fields", HEADER + '1,"a\nb",0\n\n2,b\n', ", line 5: 2 fields; the header has 3."),
    lines("not JSON", '{"sentence": "a", "mood": 0}\n{"sentence": \n', ", line 2: this is not JSON."),
    lines("JSON list", '{"sentence": "a", "mood": 0}\n["b", 1]\n', ", line 2: a JSON object is needed, one a line."),
    lines("JSON with half a character", '{"sentence": "a", "mood": 0}\n{"sentence": "\\ud800", "mood": 1}\n', ", line 2: "),
    lines("JSON without a field", '{"sentence": "a", "mood": 0}\n{"sentence": "b"}\n', ", line 2: mood is ''; "),
    train("data: damaged Parquet", says="data/mood.parquet cannot be read: ",
          files={"data/tasks.toml": MOOD.replace("mood-train.csv", "mood.parquet"), "data/mood.parquet": b"PAR1junkPAR1"}),
    train("data: score out of range", says="data/near-dev.csv, line 3: score is '5.5'; a number from 0 to 5 is needed.",
          files={"data/near-dev.csv": "one,two,score\na,b,0\nb,c,5.5\n"}),
]  # fmt: skip

ENCODERS = [
    encoder("no weights", {"model.safetensors": None}, " has no weights: "),
    encoder("weights cut short", {"model.safetensors": b"\x10\0\0\0\0\0\0\0{"}, "/model.safetensors cannot be read: "),
    encoder("no config", {"config.json": None}, " is not an encoder folder: it has no config.json."),
    encoder("config not JSON", {"config.json": "{"}, "/config.json cannot be read: "),
    encoder("another model", {"config.json": '{"model_type": "gpt2"}'}, " names no tokenizer for its model_type 'gpt2', which regkit does not read; "),
    encoder("no vocabulary", {"vocab.txt": None}, " has no tokenizer: "),
    encoder("another vocabulary", {"vocab.txt": "a\nb\n"}, "/vocab.txt: the vocabulary has no [UNK], the word for unknown ones."),
    encoder("no unknown token", {"vocab.txt": "[CLS]\n[SEP]\n[PAD]\na\n"}, "/vocab.txt: the vocabulary has no [UNK], the word for unknown ones."),
    encoder("too large a vocabulary", {"tokenizer.json": None, "vocab.txt": "\n".join(["[UNK]", "[CLS]", "[SEP]", *map(str, range(999))])}, "the tokenizer has 1004 words, the encoder "),
    encoder("damaged tokenizer.json", {"tokenizer.json": "{"}, "/tokenizer.json cannot be read"),
]  # fmt: skip
ENCODERS = [
    Case(case.name, case.command, case.says[1:] if "the tokenizer" in case.says[1] else case.says, case.files)
    for case in ENCODERS
]

RUNS = [
    Case("eval: no run at all", ("eval",), "there is no run yet: `regkit train` makes one, and runs/latest points to it."),
    Case("eval: no such run", ("eval", "rum"), "there is no run rum. Did you mean 'run'? Available: run."),
    Case("eval: a file", ("eval", "data/tasks.toml"), "there is no run data/tasks.toml."),
    Case("eval: not a run", ("eval", "encoder"), "encoder is not a run: it has no config.toml."),
    evaluate("no checkpoint", says="run/best leads to no checkpoint; run/last is whole, and ", files={"run/best": None}),
    evaluate("damaged settings", says="run/config.toml cannot be read: ", files={"run/config.toml": "x"}),
    evaluate("weights cut short", says="run/best is damaged: model.safetensors has 3 bytes instead of ", files={"run/best/model.safetensors": b"\x10\0\0"}),
    evaluate("no weights", says="run/best is damaged: model.safetensors is missing.", files={"run/best/model.safetensors": None}),
    evaluate("config not JSON", says="run/best is damaged: config.json has 1 bytes instead of ", files={"run/best/config.json": "{"}),
    evaluate("tokenizer cut short", says="run/best is damaged: tokenizer.json has 6 bytes", files={"run/best/tokenizer.json": '{"a": '}),
    evaluate("manifest cut short", says="run/best is damaged: manifest.json cannot be read.", files={"run/best/manifest.json": '{"files'}),
    evaluate("no manifest", says="run/best is damaged: manifest.json is missing.", files={"run/best/manifest.json": None}),
    evaluate("manifest of another kind", says="run/best is damaged: manifest.json cannot be read.", files={"run/best/manifest.json": '{"files": [1]}'}),
    evaluate("manifest that leads out", says="run/best is damaged: /dev/zero is missing.", files={"run/best/manifest.json": '{"files": {"/dev/zero": {"bytes": 1, "sha256": ""}}}'}),
    evaluate("no such split", "--split", "test", says="none of the tasks near has a test split; name another --split, or --data.", files={"data/tasks.toml": NEAR, "run/config.toml": 'data = "../data"'}),
    evaluate("unknown device", "--device", "gpu", says="there is no device 'gpu' here. "),
    evaluate("no such data", "--data", "nowhere", says="nowhere does not exist; "),
    evaluate("another task", "--data", "data", says="data has none of the run's tasks: mood, same, near.", files={"data/tasks.toml": MOOD.replace("tasks.mood", "tasks.feeling")}),
    evaluate("more classes", "--data", "data", says="run/best has no head for task 'mood' as it is declared now.", files={"data/tasks.toml": MOOD.replace("classes = 3", "classes = 4")}),
    evaluate("another kind of the same width", "--data", "data", says=("run", "task 'same'"), files={"data/tasks.toml": TASKS.replace('kind = "binary"', 'kind = "regression"\nrange = [0, 1]')}),
    evaluate("another range", "--data", "data", says=("run", "task 'near'"), files={"data/tasks.toml": NEAR.replace("[0, 5]", "[0, 50]")}),
    evaluate("damaged list of tasks", says="run/tasks.json cannot be read: ", files={"run/tasks.json": "{"}),
    evaluate("predictions to a file", "--predictions", "data/tasks.toml", says="--predictions is data/tasks.toml, which is no folder; name another."),
    evaluate("predictions over the data", "--predictions", "data", says="data/mood-dev.csv exists, and holds no predictions of this run; name another folder."),
    evaluate("predictions below a file", "--predictions", "data/tasks.toml/p", says="data/tasks.toml/p: Not a directory."),
    evaluate("damaged data", "--predictions", "p", says="data/same-dev.csv, line 3: ", files={"data/same-dev.csv": "one,two,same\na,b,1\nb,c,x\n"}),
]  # fmt: skip
PROSE = "A. B.\n\n" * 12  # documents of one passage


def domain(name: str, options: str, says: str, corpus: Content = PROSE, **files: Content) -> Case:
    given = "domain:" + (options if "corpus=" in options else f"corpus=c.txt{',' if options else ''}{options}")
    return train(f"domain: {name}", "-p", given, says=says, files={"c.txt": corpus, **files})


DOMAIN = [
    train("domain: no corpus", "-p", "domain", says="'domain' needs corpus: --plugin domain:corpus=STR."),
    domain("no file", "corpus=nowhere.txt", "/nowhere.txt; a corpus is a file, a folder, a glob, or hub:NAME."),
    domain("an empty corpus", "", "c.txt", corpus=""),
    domain("a corpus of blanks", "", "c.txt", corpus="\n \n\n"),
    domain("one document", "documents=files", "the corpus has one document; 1 to hold out leave none to train on; hold out fewer, or say by the option documents what forms one, such as lines."),
    domain("more held out than there are", "held_out=12", "the corpus has 12 documents; 12 to hold out leave none to train on; hold out fewer, or "),
    domain("half a document held out", "held_out=1.5", "held-out size is 1.5; a share between 0 and 1 or a whole number is needed."),
    domain("none held out", "held_out=0", "'domain': held_out is '0'; input should be greater than 0."),
    domain("no pairs", "nsp=true,documents=blank", "'domain' finds no pairs of passages to train and to score: 12 of 12 documents have no two passages, and give no pair. Hold out more with domain:held_out=NUMBER, or use domain:nsp=false.", corpus="word\n\n" * 12),
    domain("no pairs of the tasks", "corpus=tasks,nsp=true", "'domain' finds no pairs of passages to train and to score: "),
    domain("a binary file", "", "c.txt is no text file: line 1 has a NUL byte.", corpus=b"ab\0"),
    domain("another encoding", "", "c.txt, line 1: byte 0xe9 is not UTF-8 text; errors=replace reads on past such bytes.", corpus=b"caf\xe9 \n" * 9),
    domain("special tokens alone", "", "c.txt that the encoder's tokenizer knows.", corpus=b"[SEP] [MASK]\n\n[CLS]\n" * 9),
    domain("no masks", "mask=0", "'domain': mask is '0'; input should be greater than 0."),
    domain("nothing but masks", "mask=1", "'domain': mask is '1'; input should be less than 1."),
    domain("too short", "length=4", "'domain': length is '4'; input should be greater than or equal to 8."),
    domain("unknown choice", "leaks=dorp", "'domain': leaks is 'dorp'; input should be 'keep' or 'drop'."),
    domain("a task of its name", "", "two tasks are called 'mlm'; choose another name for one of them.", **{"data/tasks.toml": MOOD.replace("tasks.mood", "tasks.mlm")}),
    train("stages: unknown", "-p", "smart:stages=finetun", says="'smart' shall act in stage 'finetun'. Did you mean 'finetune'? Available: finetune."),
    train("stages: one that nobody adds", "-p", "smart:stages=domain,finetune", says="'smart' shall act in stage 'domain'. Available: finetune."),
    train("stages: none after a comma", "-p", "smart:stages=finetune,", says="'smart' shall act in stage ''. Available: finetune."),
    train("stages: two schedulers in one", "-p", "domain:corpus=tasks", "-p", "rrobin:stages=domain", "-p", "proportional:stages=domain,finetune", says="'rrobin' and 'proportional' both decide epoch_steps and choose_tasks; keep one of them."),
]  # fmt: skip
GROUPS = {
    "The command line": COMMAND_LINE,
    "Plugins": PLUGINS,
    "Domain pretraining and stages": DOMAIN,
    "Settings in a file": CONFIGS,
    "Declared tasks": DECLARED,
    "Data": DATA,
    "Encoders": ENCODERS,
    "Runs": RUNS,
}
CASES = [case for cases in GROUPS.values() for case in cases]


def page() -> str:
    """The table as Markdown, a section a group."""
    lines = ["# What regkit says when"]
    for title, cases in GROUPS.items():
        lines += ["", f"## {title}", "", "| what is wrong | command | it says |", "| --- | --- | --- |"]
        for case in cases:
            command = "regkit " + " ".join(map(str, case.command))
            sentence = " ... ".join([case.says] if isinstance(case.says, str) else case.says)
            lines.append(
                "| "
                + " | ".join(
                    cell.replace("|", "\\|").replace("\n", " ") for cell in (case.name, f"`{command}`", sentence)
                )
                + " |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    print(page())
