"""Trainer: the program that `run` and `apart` compare with - transformers' Trainer, as its users write it.

It reads `train.jsonl` and `dev.jsonl` of a folder: `text`, for pairs also `other`, and as `label` a word for a class, or a number
to be learned as one. After `--epochs` it prints the scores on dev. It imports nothing of regkit.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    EvalPrediction,
    Trainer,
    TrainingArguments,
)

Rows = list[dict[str, object]]


def read(path: Path, tokenizer: AutoTokenizer, classes: dict[str, int]) -> Rows:
    """Read texts and labels, and tokenize all texts at once."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf8").splitlines()]
    sides = [[row[side] for row in rows] for side in ("text", "other") if side in rows[0]]
    encoded = tokenizer(*sides, truncation=True)
    numbers = isinstance(rows[0]["label"], float)
    labels = [row["label"] if numbers else classes.setdefault(row["label"], len(classes)) for row in rows]
    return [
        {name: values[number] for name, values in encoded.items()} | {"labels": label}
        for number, label in enumerate(labels)
    ]


def scores(found: EvalPrediction) -> dict[str, float]:
    """Score classes by their accuracy, and numbers by Pearson's correlation."""
    if found.predictions.shape[1] == 1:
        return {"pearson": float(np.corrcoef(found.predictions[:, 0], found.label_ids)[0, 1])}
    return {"accuracy": float((found.predictions.argmax(1) == found.label_ids).mean())}


def scored_twice(steps: int) -> dict[str, object]:
    """Train for so many updates, scored before the first and after the last, as a benchmark wants it."""
    return {
        "max_steps": steps,
        "eval_strategy": "steps",
        "eval_steps": steps,
        "eval_on_start": True,
        "save_steps": steps,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--epochs", type=float, default=3.0)
    parser.add_argument("--warmup", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--precision")
    parser.add_argument("--grouped", action="store_true")
    parser.add_argument("--output")
    chosen = parser.parse_args()
    tokenizer, classes = AutoTokenizer.from_pretrained(chosen.encoder), {}
    train, dev = (read(chosen.data / f"{split}.jsonl", tokenizer, classes) for split in ("train", "dev"))
    arguments = TrainingArguments(
        chosen.output,
        num_train_epochs=chosen.epochs,
        warmup_steps=chosen.warmup,
        seed=chosen.seed,
        per_device_train_batch_size=chosen.batch_size,
        per_device_eval_batch_size=chosen.batch_size,
        learning_rate=chosen.learning_rate,
        train_sampling_strategy="group_by_length" if chosen.grouped else "random",
        **(scored_twice(chosen.steps) if chosen.steps else {"save_strategy": "no"}),
        bf16=chosen.precision == "bf16",
        use_cpu=not torch.cuda.is_available(),
        report_to="none",
        disable_tqdm=True,
    )
    trainer = Trainer(
        AutoModelForSequenceClassification.from_pretrained(chosen.encoder, num_labels=len(classes) or 1),
        arguments,
        data_collator=DataCollatorWithPadding(tokenizer),
        train_dataset=train,
        eval_dataset=dev,
        compute_metrics=scores,
    )
    trainer.train()
    if not chosen.steps:
        print(json.dumps(trainer.evaluate()))


if __name__ == "__main__":
    main()
