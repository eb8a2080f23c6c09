"""Onnx: write all tasks as graphs of ONNX, for any number of texts of any length.

`model.onnx` has the tasks that read one sequence: a text, or a pair read together. `bi_encoder.onnx` has those that read the
texts of a pair apart. A graph runs the encoder once a sequence, and has an output for each task.
"""

import contextlib
import copy
import io
import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from regkit.model.modes import mode
from regkit.model.padded import padded_states, padded_vectors
from regkit.runs.export.files import write_json, write_tokenizer
from regkit.runs.export.forms import form_of
from regkit.runs.export.source import Source, Texts
from regkit.tasks.task import Task

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
GRAPHS = {1: "model.onnx", 2: "bi_encoder.onnx"}  # by the number of sequences of an example
OUTPUTS = "outputs.json"


class Graph(nn.Module):
    """Compute the outputs of tasks from padded texts.

    There are three inputs for each sequence of an example, all `[examples, longest]`, see `INPUTS`.
    """

    def __init__(self, source: Source, tasks: Sequence[Task]) -> None:
        super().__init__()
        self.model = copy.deepcopy(source.model)  # the exporter leaves some models of transformers changed
        self.tasks = [(task.name, source.pooling(task), form_of(task)) for task in tasks]

    def forward(self, *inputs: Tensor) -> list[Tensor]:
        """Compute `[examples, numbers]` for each task."""
        sequences = [inputs[place : place + len(INPUTS)] for place in range(0, len(inputs), len(INPUTS))]
        states = [padded_states(self.model.encoder, *each) for each in sequences]
        found = []
        for name, pooling, form in self.tasks:
            vectors = [
                padded_vectors(self.model.encoder, hidden, mask, pooling)
                for hidden, (_, mask, _) in zip(states, sequences, strict=True)
            ]
            adjacent = torch.stack(vectors, dim=1).flatten(0, 1)  # [sequences of all examples, width]
            found.append(form.convert(self.model.heads[name](adjacent)))
        return found


def write(source: Source, folder: Path) -> None:
    """Write the graphs, the tokenizer and what each output means."""
    for sides, name in GRAPHS.items():
        if tasks := tasks_of(source, sides):
            _export(Graph(source, tasks), sides, [output_name(task) for task in tasks], folder / name)
    described = {
        output_name(task): {"graph": GRAPHS[_sides(task)], "problem_type": form.problem, "labels": form.labels}
        for task in source.tasks
        for form in [form_of(task)]
    }
    write_json(folder / OUTPUTS, described)
    write_tokenizer(folder, source)


def output_name(task: Task) -> str:
    """Name a task's output: `sst.logits`, or `sts.score`."""
    return f"{task.name}.{form_of(task).name}"


def tasks_of(source: Source, sides: int) -> list[Task]:
    """List the tasks whose examples have so many sequences."""
    return [task for task in source.tasks if _sides(task) == sides]


def input_names(sides: int) -> list[str]:
    """Name the inputs of a graph; those of a second sequence end in `_2`."""
    return [f"{name}{ending}" for ending in ("", "_2")[:sides] for name in INPUTS]


def outputs(folder: Path, source: Source, task: Task, pairs: Texts) -> Tensor:
    """Compute a task's output by onnxruntime, `[pairs, numbers]`, with the export's tokenizer."""
    import onnxruntime
    from tokenizers import Tokenizer

    sides = _sides(task)
    backend = Tokenizer.from_file(str(folder / "tokenizer.json"))
    settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf8"))
    padding = str(settings.get("pad_token", ""))
    backend.enable_padding(pad_id=backend.token_to_id(padding) or 0, pad_token=padding)
    backend.enable_truncation(settings["model_max_length"])
    columns = list(zip(*pairs, strict=True))
    texts = columns if sides == 2 else [list(pairs) if task.pair_mode else columns[0]]
    inputs = []
    for each in texts:
        encoded = backend.encode_batch(list(each))
        inputs += [[getattr(text, name) for text in encoded] for name in ("ids", "attention_mask", "type_ids")]
    session = onnxruntime.InferenceSession(folder / GRAPHS[sides], providers=["CPUExecutionProvider"])
    given = {name: torch.tensor(value).numpy() for name, value in zip(input_names(sides), inputs, strict=True)}
    (found,) = session.run([output_name(task)], given)
    return torch.from_numpy(found)


def _sides(task: Task) -> int:
    return 2 if task.pair_mode == "bi_encoder" else 1


def _export(graph: Graph, sides: int, names: Sequence[str], path: Path) -> None:
    """Record a graph on an example of each input; the sizes of both dimensions stay open."""
    count, lengths = torch.export.Dim("examples"), [torch.export.Dim(f"length_{side}") for side in range(sides)]
    inputs = input_names(sides)
    examples = tuple(torch.ones(2, 5, dtype=torch.int64) for _ in inputs)  # one tensor for all would be one input
    for mask in examples[1 :: len(INPUTS)]:
        mask[1, -1] = 0  # without padding, some models would leave the mask out
    shapes = [{0: count, 1: length} for length in lengths for _ in INPUTS]
    with torch.no_grad(), mode(graph, training=False), _quiet():
        program = torch.onnx.export(
            graph,
            examples,
            input_names=inputs,
            output_names=list(names),
            dynamic_shapes=(tuple(shapes),),
            dynamo=True,
            verbose=False,
        )
        assert program is not None  # it is, with dynamo
        program.save(path)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch's exporter from reporting what it skips: what it gets wrong is found afterwards."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
