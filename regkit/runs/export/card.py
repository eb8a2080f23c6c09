"""Card: describe an export in a README.md, as the Hugging Face Hub reads it.

It says what the run has noted, and nothing else.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from regkit.base.errors import short, typed
from regkit.base.files import read_object
from regkit.model.heads import Cosine, PairFeatures
from regkit.runs.export.forms import form_of, one_number
from regkit.runs.export.onnx import GRAPHS, output_name, tasks_of
from regkit.runs.export.sentence import HEAD
from regkit.runs.export.source import Source
from regkit.runs.folders import AVERAGE, ENVIRONMENT
from regkit.runs.settings import Settings, options
from regkit.tasks.objectives import SCALE
from regkit.tasks.task import Task

TOLD = {"data", "encoder", "plugins"}  # on lines of their own
ONNX = """\
import onnxruntime
from transformers import AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(FOLDER)
session = onnxruntime.InferenceSession(f"{{FOLDER}}/{graph}")
options = {{"padding": True, "truncation": True, "return_tensors": "np", "return_token_type_ids": True}}
{read}
(found,) = session.run(["{output}"], inputs)"""
OURS = ("regkit", "__main__.py")  # what a run that the command line began was started as
LIBRARIES = {"hf": "transformers", "sentence-transformers": "sentence-transformers", "onnx": "onnx"}


def write_card(source: Source, form: str, folder: Path) -> None:
    """Write README.md: front matter, how to use it, scores, and how it was trained."""
    card = Card(source, form)
    parts = [card.front_matter(), card.title(), card.usage(), card.scores(), card.training()]
    (folder / "README.md").write_text("\n\n".join(filter(None, parts)) + "\n", encoding="utf8")


@dataclass
class Card:
    """The parts of a README.md."""

    source: Source
    form: str

    @cached_property
    def environment(self) -> Mapping[str, Any]:
        """What the run noted of its machine."""
        return read_object(self.source.folder / ENVIRONMENT)

    def front_matter(self) -> str:
        """Write the entries that the Hub reads. The licence is for the user to choose."""
        lines = ["license: unknown  # yours to choose", f"library_name: {LIBRARIES[self.form]}"]
        if kind := self._pipeline():
            lines.append(f"pipeline_tag: {kind}")
        if base := hub_name(self.source.settings):
            lines.append(f"base_model: {json.dumps(base)}")
        return "\n".join(["---", *lines, "tags:", "- regkit", "---"])

    def _pipeline(self) -> str:
        if self.form == "sentence-transformers":
            together = self.source.tasks[0].pair_mode == "cross_encoder"
            return "text-ranking" if together else "sentence-similarity"
        return "text-classification" if self.form == "hf" else ""

    def title(self) -> str:
        """Write the heading, and a line for each task."""
        names = ", ".join(task.name for task in self.source.tasks)
        return "\n".join([f"# {names}", "", *(f"* {describe(task)}" for task in self.source.tasks)])

    def usage(self) -> str:
        """Show the lines of Python that give an output, and what they give."""
        write = {"hf": self._by_transformers, "sentence-transformers": self._by_sentences, "onnx": self._by_onnx}
        code, *said = write[self.form]()
        return "\n\n".join(["## Use", f"```python\n{code}\n```", *said])

    def _by_transformers(self) -> Iterator[str]:
        (task,) = self.source.tasks
        text = '{"text": "...", "text_pair": "..."}' if task.pair_mode else '"..."'
        load = 'from transformers import pipeline\n\nclassify = pipeline("text-classification", model=FOLDER)'
        yield f"{load}\nclassify({text})"
        yield from _unclipped(task)

    def _by_sentences(self) -> Iterator[str]:
        (task,) = self.source.tasks
        if task.pair_mode == "cross_encoder":
            load = "from sentence_transformers import CrossEncoder\n\nmodel = CrossEncoder(FOLDER)"
            yield f'{load}\nmodel.predict([("...", "...")])'
            form = one_number(form_of(task))
            yes = form.activation == "Sigmoid"
            yield f"The output is {f'the probability of {form.labels[0]}' if yes else f'the {form.name}'}."
        else:
            load = "from sentence_transformers import SentenceTransformer\n\nmodel = SentenceTransformer(FOLDER)"
            yield f'{load}\nvectors = model.encode(["...", "..."])'
            yield self._head(task)
        yield from _unclipped(task)

    def _head(self, task: Task) -> str:
        """Say what makes the task's output of vectors."""
        head = self.source.model.heads[task.name]
        if isinstance(head, Cosine):
            lowest, highest = form_of(task).convert(torch.tensor([0.0, SCALE])).flatten().tolist()
            return (
                f"The score of a pair is {lowest:g} + {highest - lowest:g} * the cosine of its vectors, which "
                "`model.similarity` gives."
            )
        read = "`[u, v, |u - v|, u * v]` of the two vectors" if isinstance(head, PairFeatures) else "the vector"
        return f"The output is `weight @ x + bias` with the tensors of `{HEAD}`, and x is {read}."

    def _by_onnx(self) -> Iterator[str]:
        sides, graph = next((sides, name) for sides, name in GRAPHS.items() if tasks_of(self.source, sides))
        task = tasks_of(self.source, sides)[0]
        texts = '["..."], ["..."]' if task.pair_mode == "cross_encoder" else '["..."]'
        read = f"inputs = dict(tokenizer({texts}, **options))"
        if sides == 2:
            read += '\ninputs |= {f"{name}_2": ids for name, ids in tokenizer(["..."], **options).items()}'
        yield ONNX.format(graph=graph, read=read, output=output_name(task))
        yield "`outputs.json` describes the outputs of each graph."
        for task in self.source.tasks:
            yield from _unclipped(task)

    def scores(self) -> str:
        """Write the dev scores of the exported checkpoint, with the number of examples where the run noted it."""
        found = read_object(self.source.folder / "scores.json")
        dev = found.get("dev") or {}
        rows = [
            f"| {task.name} | {name} | {value:.4f} | {self._examples(task.name).get('dev', '')} |"
            for task in self.source.tasks
            for name, value in dev.get(task.name, {}).items()
        ]
        if not rows:
            return ""
        head = ["| task | score | value | examples |", "| --- | --- | --- | --- |"]
        names = [f"{task.name}:" for task in self.source.tasks]
        said = [f"* {line}" for line in found.get("warnings", ()) if line.startswith(tuple(names))]
        return "\n".join(["## Scores on dev", "", *head, *rows, *([""] if said else []), *said])

    def _examples(self, task: str) -> Mapping[str, int]:
        found: Mapping[str, int] = self.environment.get("examples", {}).get(task, {})
        return found

    def training(self) -> str:
        """List data, encoder, plugins, other settings, command and versions."""
        settings = self.source.settings
        lines = self._averaged()
        lines.append(f"* data: {settings.data.name if settings.data else 'the demo of regkit'}{self._sizes()}")
        lines.append(f"* encoder: {encoder_name(settings)}")
        lines += [f"* plugin: {plugin(name, options)}" for name, options in settings.plugins.items()]
        if changed := other_settings(settings):
            lines.append(f"* settings: {', '.join(changed)}")
        program, *words = self.environment.get("command") or [""]
        if Path(program).name in OURS:  # a run that was begun in Python has a program of the user's there
            lines.append(f"* command: `{typed('regkit', *words)}`")
        versions = {"python": self.environment.get("python"), **self.environment.get("packages", {})}
        if said := ", ".join(f"{name} {found}" for name, found in versions.items() if found):
            lines.append(f"* versions: {said}")
        return "\n".join(["## Training", "", *lines])

    def _averaged(self) -> list[str]:
        """Name the runs whose weights were averaged, if it was not one run that was trained."""
        noted = read_object(self.source.folder / AVERAGE).get("averaged")
        if not noted:
            return []
        kept = ", ".join(Path(each["run"]).name for each in noted if each["kept"])
        first = Path(noted[0]["run"]).name
        return [f"* weights: the average of those of {kept}; data and settings are those of {first}"]

    def _sizes(self) -> str:
        """Count the examples of each task that were trained on."""
        found = {task.name: self._examples(task.name).get("train") for task in self.source.tasks}
        said = ", ".join(f"{name} {count}" for name, count in found.items() if count)
        return f" (examples trained on: {said})" if said else ""


def describe(task: Task) -> str:
    """Describe in a line what a task reads and gives."""
    reads = {None: "a text", "cross_encoder": "a pair, read together", "bi_encoder": "a pair, read apart"}[
        task.pair_mode
    ]
    form = form_of(task)
    gives = "a score" if form.name == "score" else f"one of {len(form.labels)} classes: {short(', '.join(form.labels))}"
    return f"{task.name} ({task.objective.kind}): reads {reads}, and gives {gives}"


def hub_name(settings: Settings) -> str:
    """Return the name on the Hub of the encoder that was trained, if it came from there."""
    name = settings.encoder or ""
    return "" if settings.encoder_factory or Path(name).is_absolute() else name


def encoder_name(settings: Settings) -> str:
    """Name the encoder that was trained: a folder without the path on this machine."""
    return Path(settings.encoder).name if settings.encoder else "the demo's MiniLM"


def plugin(name: str, options: Mapping[str, Any]) -> str:
    """Write a plugin with its options as the command line reads them."""
    chosen = ",".join(f"{option}={_shown(value)}" for option, value in options.items())
    return f"{name}:{chosen}" if chosen else name


def other_settings(settings: Settings) -> list[str]:
    """List the settings that differ from their defaults, but for those that have lines of their own."""
    return [
        f"{option.name} {_shown(value)}"
        for option in options().values()
        if option.name not in TOLD and (value := getattr(settings, option.name)) != option.default
    ]


def _unclipped(task: Task) -> list[str]:
    """Say where outputs differ from predictions: regkit clips a score to its range."""
    form = form_of(task)
    if form.name != "score":
        return []
    lowest, highest = form.convert(torch.tensor([0.0, SCALE])).flatten().tolist()
    return [f"`{task.name}` has scores from {lowest:g} to {highest:g}; clip an output to that range, as regkit does."]


def _shown(value: object) -> str:
    """Write a value as the command line reads it."""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return ",".join(map(str, value))
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)
