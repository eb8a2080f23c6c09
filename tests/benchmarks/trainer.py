"""Trainer: the program that `run` compares with - transformers' Trainer, as its users write it.

It imports nothing of regkit.
"""

import argparse
import json
from pathlib import Path

import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)

Rows = list[dict[str, object]]


def read(path: Path, tokenizer: AutoTokenizer, classes: dict[str, int]) -> Rows:
    """Read texts and labels, and tokenize all texts at once."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf8").splitlines()]
    encoded = tokenizer([row["text"] for row in rows], truncation=True)
    labels = [classes.setdefault(row["label"], len(classes)) for row in rows]
    return [
        {name: values[number] for name, values in encoded.items()} | {"labels": label}
        for number, label in enumerate(labels)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--steps", type=int)
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
        max_steps=chosen.steps,
        per_device_train_batch_size=chosen.batch_size,
        per_device_eval_batch_size=chosen.batch_size,
        learning_rate=chosen.learning_rate,
        train_sampling_strategy="group_by_length" if chosen.grouped else "random",
        eval_strategy="steps",
        eval_steps=chosen.steps,
        eval_on_start=True,
        save_steps=chosen.steps,
        bf16=chosen.precision == "bf16",
        use_cpu=not torch.cuda.is_available(),
        report_to="none",
        disable_tqdm=True,
    )
    Trainer(
        AutoModelForSequenceClassification.from_pretrained(chosen.encoder, num_labels=len(classes)),
        arguments,
        data_collator=DataCollatorWithPadding(tokenizer),
        train_dataset=train,
        eval_dataset=dev,
        compute_metrics=lambda found: {"accuracy": float((found.predictions.argmax(1) == found.label_ids).mean())},
    ).train()


if __name__ == "__main__":
    main()
