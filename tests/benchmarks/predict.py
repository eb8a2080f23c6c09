"""Predict: answers for texts, by regkit, transformers' pipeline and its Trainer, with the same weights; and their memory."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

import regkit
from regkit.data.find import find_tasks
from tests.benchmarks import child
from tests.benchmarks.alike import Outcome
from tests.benchmarks.options import Options
from tests.benchmarks.table import Contender, Table, measure
from tests.benchmarks.turns import Way

if TYPE_CHECKING:
    from transformers import BertForSequenceClassification

Answer = Callable[[Sequence[str]], Tensor]  # the probability of each class, [texts, classes]


def tables(options: Options) -> Iterator[Table]:
    """Compare answers with those of transformers; then measure `regkit predict` on ever more lines."""
    with TemporaryDirectory() as name:
        run = Path(name) / "run"
        train(options, run)
        texts = list(islice(cycle(texts_of(options, run)), 100 if options.quick else 2000))
        contenders = [
            Contender(who, partial(way, run, options, texts, make), needs)
            for who, make, needs in (
                ("transformers' pipeline", pipeline, "transformers"),
                ("transformers' Trainer.predict", trainer_predict, "accelerate"),
                ("regkit", by_regkit, ""),
            )
        ]
        yield measure(f"{len(texts)} texts of {options.task}", contenders, options, unit="texts")
        counts = (100,) if options.quick else (10_000, 100_000)
        figures = {f"{count} lines": said_of(run, texts, count, Path(name)) for count in counts}
        yield Table("`regkit predict` on a file", [], figures=figures)


def train(options: Options, run: Path) -> None:
    """Train a model of the task for one update: its answers mean nothing."""
    words = ["--encoder", options.encoder, "--tasks", options.task, "--pooling", "pooler"]
    words += ["--data", options.data] if options.data else []
    child.run(["-m", "regkit", "train", *words, "--steps", "1", "--output", run])


def texts_of(options: Options, run: Path) -> list[str]:
    (column,) = regkit.load(run).tasks[options.task].reading.text
    return [row[column] for row in find_tasks(options.data)[options.task].table("dev").rows]


def way(run: Path, options: Options, texts: Sequence[str], make: Callable[[Path, Options], Answer]) -> Way:
    answer = make(run, options)
    return Way(lambda number: answer(texts), lambda: Outcome(answer(texts[:100])), lambda number: len(texts))


def by_regkit(run: Path, options: Options) -> Answer:
    trained = regkit.load(run, precision=options.precision)
    return lambda texts: torch.from_numpy(np.asarray(trained.predict_proba(options.task, texts)))


def pipeline(run: Path, options: Options) -> Answer:
    """Do what users of transformers do: a pipeline with a batch size."""
    from transformers import pipeline

    classes, tokenizer, model = theirs(run, options)
    ask = pipeline(
        "text-classification", model=model, tokenizer=tokenizer, batch_size=32, device=options.device, top_k=None
    )
    longest = model.config.max_position_embeddings

    def answer(texts: Sequence[str]) -> Tensor:
        found = ask(list(texts), truncation=True, max_length=longest)
        by_name = [{each["label"]: each["score"] for each in scores} for scores in found]
        return torch.tensor([[scores[name] for name in classes] for scores in by_name], dtype=torch.float64)

    return answer


def trainer_predict(run: Path, options: Options) -> Answer:
    """Have the Trainer tokenize, pad by batches, and predict."""
    from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

    _, tokenizer, model = theirs(run, options)
    arguments = TrainingArguments(
        mkdtemp(),
        per_device_eval_batch_size=32,
        use_cpu=options.device.type == "cpu",
        bf16_full_eval=options.precision == "bf16",
        report_to="none",
        disable_tqdm=True,
    )
    trainer = Trainer(model, arguments, data_collator=DataCollatorWithPadding(tokenizer))
    longest = model.config.max_position_embeddings

    def answer(texts: Sequence[str]) -> Tensor:
        read = tokenizer(list(texts), truncation=True, max_length=longest)
        rows = [{name: values[row] for name, values in read.items()} for row in range(len(texts))]
        logits = torch.from_numpy(trainer.predict(rows).predictions)
        return torch.softmax(logits.double(), dim=1)

    return answer


def theirs(run: Path, options: Options) -> "tuple[Sequence[str], Any, BertForSequenceClassification]":
    """Load the run's weights into transformers' model: its classes, its tokenizer and the model."""
    from transformers import AutoTokenizer, BertForSequenceClassification

    trained = regkit.load(run)
    assert trained.folder is not None
    classes = trained.classes(options.task)
    model = BertForSequenceClassification.from_pretrained(
        trained.folder, num_labels=len(classes), id2label=dict(enumerate(classes))
    )
    model.classifier.load_state_dict(trained.inference.model.heads[options.task].linear.state_dict())
    return classes, AutoTokenizer.from_pretrained(trained.folder), model.eval()


def said_of(run: Path, texts: Sequence[str], count: int, folder: Path) -> str:
    """Measure `regkit predict` on so many lines: its peak memory and its time."""
    lines = folder / "lines.txt"
    with lines.open("w", encoding="utf8") as file:
        file.writelines(f"{text}\n" for text in islice(cycle(texts), count))
    used = child.run(["-m", "regkit", "predict", run, lines, "--output", folder / "found.csv"])
    return f"{used.most / 1e6:.0f} MB at most, {used.wall:.0f} s"
