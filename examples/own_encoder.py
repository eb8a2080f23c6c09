"""Train an encoder of your own: a convolution over words, with the tokenizer of a folder.

From the folder of this file, on the command line or from Python:

    regkit train --encoder FOLDER --encoder-factory own_encoder:build
    python own_encoder.py --encoder FOLDER --steps 30
"""

import argparse

import torch
from torch import Tensor, nn

import regkit


class Convolution(nn.Module):
    """Word embeddings, and for each token a layer that also sees its two neighbours."""

    def __init__(self, words: int, width: int = 64, longest: int = 512) -> None:
        super().__init__()
        self.width, self.longest = width, longest  # of the hidden states; tokens in a text
        self.word = nn.Embedding(words, width)
        self.layer = nn.Linear(3 * width, width)
        self.dropout = regkit.Dropout(0.1)

    def embed(self, batch: regkit.Batch) -> Tensor:
        return self.word(batch.tokens)  # [tokens, width]: the texts of a batch stand end to end

    def encode(self, embeddings: Tensor, batch: regkit.Batch, rows: Tensor | None = None) -> Tensor:
        first = batch.positions == 0
        before = embeddings.roll(1, dims=0).masked_fill(first[:, None], 0)  # no word of another text
        after = embeddings.roll(-1, dims=0).masked_fill(first.roll(-1)[:, None], 0)
        around = torch.cat([before, embeddings, after], dim=1)
        hidden = embeddings + self.dropout(self.layer(around).relu())
        return hidden if rows is None else hidden[rows]  # [rows, width]: a head may read some tokens only


def build(tokenizer: regkit.Tokenizer) -> Convolution:
    """Build the encoder. regkit calls this for a new run, and to read a checkpoint back."""
    return Convolution(len(tokenizer))


def main() -> None:
    """Train the demo's three tasks for a few updates."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--encoder", help="a folder with a tokenizer, or a checkpoint; the demo's without it")
    parser.add_argument("--steps", type=int, default=30)
    chosen = parser.parse_args()
    settings = regkit.Settings(encoder=chosen.encoder, encoder_factory="own_encoder:build", steps=chosen.steps)
    regkit.Experiment.build(settings).trainer.train()
    print(f"trained for {chosen.steps} updates; to save and score a run, name the function to regkit train")


if __name__ == "__main__":
    main()
