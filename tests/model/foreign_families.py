"""Tiny checkpoints of families that minBERT does not read, as transformers writes them."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch

from regkit.model.tokenizer import Tokenizer
from tests.helpers import VOCABULARY

SIZES: dict[str, Any] = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 4}
SIZES |= {"intermediate_size": 24, "max_position_embeddings": 40, "pad_token_id": 0}
RATES: dict[str, Any] = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}
ENDS: dict[str, Any] = {"bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
RELATIVE: dict[str, Any] = {"relative_attention": True, "position_biased_input": False, "pos_att_type": ["p2c", "c2p"]}

# By model_type: the entries of config.json, and whether it is run on packed tokens.
FOREIGN: dict[str, tuple[dict[str, Any], bool]] = {
    "modernbert": (
        SIZES | ENDS | {"local_attention": 8, "attention_dropout": 0.1, "mlp_dropout": 0.1, "embedding_dropout": 0.1},
        True,
    ),
    "deberta-v2": (
        SIZES
        | RATES
        | RELATIVE
        | {"position_buckets": 8, "share_att_key": True, "norm_rel_ebd": "layer_norm", "type_vocab_size": 0},
        False,
    ),
    "albert": (SIZES | RATES | {"embedding_size": 8}, True),
    "eurobert": (SIZES | ENDS | {"num_key_value_heads": 2, "head_dim": 4, "attention_dropout": 0.1}, True),
    "nomic_bert": (SIZES | RATES | {"head_dim": 4}, True),
    "jina_embeddings_v3": (SIZES | RATES, True),
    "roberta-prelayernorm": (SIZES | RATES | {"pad_token_id": 1}, True),
    "deberta": (SIZES | RATES | RELATIVE, False),
    "mpnet": (SIZES | RATES | {"pad_token_id": 1}, False),
    "mobilebert": (SIZES | RATES | {"embedding_size": 8, "intra_bottleneck_size": 8, "true_hidden_size": 8}, False),
    "rembert": (SIZES | RATES | {"input_embedding_size": 8, "output_embedding_size": 8}, False),
    "megatron-bert": (SIZES | RATES, False),
    "longformer": (SIZES | RATES | {"attention_window": 4, "pad_token_id": 1}, False),
}


def foreign_model(family: str, **more: Any) -> Any:
    """A random tiny model of transformers, every tensor drawn anew, so that no two can be taken for each other."""
    transformers = pytest.importorskip("transformers")
    if family not in transformers.CONFIG_MAPPING:
        pytest.skip(f"transformers {transformers.__version__} has no {family}")
    shape = FOREIGN[family][0] if family in FOREIGN else SIZES
    torch.manual_seed(1)
    model = transformers.AutoModel.from_config(transformers.AutoConfig.for_model(family, **shape | more)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    torch.nn.init.zeros_(model.get_input_embeddings().weight.data[shape["pad_token_id"]])  # as transformers draws it
    return model


def write_foreign(folder: Path, family: str, **more: Any) -> Path:
    """Write the checkpoint of such a model, with a vocabulary of single letters if it has as many words."""
    model = foreign_model(family, **more)
    bars = pytest.importorskip("transformers").utils.logging
    bars.disable_progress_bar()
    model.save_pretrained(folder)
    bars.enable_progress_bar()
    if model.get_input_embeddings().num_embeddings == len(VOCABULARY):
        write_vocabulary(folder)
    return folder


def write_vocabulary(folder: Path) -> None:
    """Write a tokenizer whose vocabulary is single letters, for a model of any family."""
    with TemporaryDirectory() as place:
        (Path(place) / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf8")
        Tokenizer.load(Path(place)).save(folder)
