"""Encoders: time the ways in which regkit runs a family, and transformers' padded loop, in turn on the same batches.

    python -m tests.benchmarks.encoders TOKENIZER DATA [--task sst] [--width 384] [--layers 6] [--rounds 20] [--random-batches] [--bf16]

TOKENIZER is a folder whose tokenizer is taken; the weights are random, of RoBERTa (by minBERT, and by the adapter) and of
ModernBERT (by the adapter). Prints medians, and the medians of the ratios round by round.
"""

import argparse
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import torch
from torch import nn

from regkit import Experiment, Settings, Tokenizer
from regkit.data.order import Feed
from regkit.model.families import FAMILIES
from regkit.model.modes import autocast
from tests.benchmarks.step import Step, in_turn, labels, padded, regkit_step

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json")


def write(folder: Path, family: str, tokenizer: Path, chosen: argparse.Namespace) -> Path:
    """Write a random checkpoint of a family, with the tokenizer of another folder."""
    import transformers

    shape: dict[str, Any] = {
        "vocab_size": len(Tokenizer.load(tokenizer)),
        "hidden_size": chosen.width,
        "num_hidden_layers": chosen.layers,
        "num_attention_heads": chosen.width // 32,
        "intermediate_size": 4 * chosen.width,
        "max_position_embeddings": 514,
        "pad_token_id": 0,
    }
    rates = {"attention_dropout": 0.1, "mlp_dropout": 0.1, "embedding_dropout": 0.1}
    rates |= dict.fromkeys(["bos_token_id", "cls_token_id"], 101) | dict.fromkeys(["eos_token_id", "sep_token_id"], 102)
    more: dict[str, Any] = {"modernbert": rates, "roberta": {"type_vocab_size": 1}}[family]
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(family, **shape | more)
    transformers.utils.logging.disable_progress_bar()
    transformers.AutoModel.from_config(config).save_pretrained(folder)
    for name in TOKENIZER_FILES:
        if (tokenizer / name).exists():
            shutil.copy(tokenizer / name, folder / name)
    return folder


def padded_step(encoder: Path, data: Path, chosen: argparse.Namespace) -> Step:
    """Make an update by hand around transformers' model, padded to the longest text, with a head on the mean."""
    from transformers import AutoModel

    settings = Settings(data=data, encoder=str(encoder), tasks=[chosen.task], batch_size=chosen.batch_size)
    experiment = Experiment.build(settings)
    device, task = experiment.trainer.streams.device, experiment.tasks[0]
    model = AutoModel.from_pretrained(encoder).to(device).train()
    head = nn.Sequential(nn.Dropout(0.1), nn.Linear(model.config.hidden_size, task.objective.width)).to(device)
    parameters = [*model.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=5e-5, fused=True)
    feed = Feed(task, 0, "finetune", bucketing=not chosen.random_batches)

    def step(number: int) -> None:
        (batch,) = feed.micro_batches(number, 10**9)
        inputs = {name: value.to(device) for name, value in padded(batch).items() if name != "token_type_ids"}
        mask = inputs["attention_mask"][..., None]
        with autocast(device, torch.bfloat16 if chosen.bf16 else torch.float32):
            hidden = model(**inputs).last_hidden_state
            output = head((hidden * mask).sum(1) / mask.sum(1))
            loss = task.objective.loss(
                output.squeeze(1) if task.objective.width == 1 else output, labels(task, batch, device)
            )
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()

    return step


def regkit_update(encoder: Path, data: Path, chosen: argparse.Namespace) -> Step:
    """Make the same update by regkit."""
    return regkit_step(encoder, data, chosen.task, {}, chosen, pooling="mean")


def main() -> None:
    parser = argparse.ArgumentParser(description="Seconds of a training step, by family and way.")
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--task", default="sst")
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--random-batches", action="store_true")
    parser.add_argument("--bf16", action="store_true")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    with TemporaryDirectory() as place:
        roberta, modern = (
            write(Path(place) / family, family, chosen.tokenizer, chosen) for family in ("roberta", "modernbert")
        )
        with patch.dict(FAMILIES):
            del FAMILIES["roberta"]
            adapted = regkit_update(roberta, chosen.data, chosen)
        compared = {
            "roberta": {
                "transformers, padded": padded_step(roberta, chosen.data, chosen),
                "minBERT": regkit_update(roberta, chosen.data, chosen),
                "the adapter": adapted,
            },
            "modernbert": {
                "transformers, padded": padded_step(modern, chosen.data, chosen),
                "the adapter": regkit_update(modern, chosen.data, chosen),
            },
        }
        for family, steps in compared.items():
            in_turn({f"{family} by {name}": step for name, step in steps.items()}, chosen.rounds)


if __name__ == "__main__":
    main()
