"""Families: describe each family of encoders that minBERT reads, by its names and numbers."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

Names = Mapping[str, str]


@dataclass(frozen=True)
class ClassifierNames:
    """The head of `...ForSequenceClassification`: a linear layer on that of another, which reads [CLS]."""

    name: str = "classifier"
    below: str = "pooler.dense"  # the other layer
    activation: str = "tanh"  # of the other layer

    @property
    def tensors(self) -> Names:
        """Map the names of our head's tensors to theirs."""
        return {f"linear.{kind}": f"{self.name}.{kind}" for kind in ("weight", "bias")}


OWN_LAYER = ClassifierNames("classifier.out_proj", "classifier.dense")


@dataclass(frozen=True)
class Family:
    """One family: what its checkpoints call things, and where its numbers differ."""

    name: str  # `model_type` of config.json
    prefix: str  # before the names of the encoder's tensors, where a checkpoint has heads too
    classes: str  # how the names of its classes in transformers begin: Bert of BertModel
    layer: Names = field(default_factory=dict)  # minBERT's modules inside a layer: their names where they differ
    layers: str = "encoder.layer"  # the list of layers
    entries: Names = field(default_factory=dict)  # fields of BertConfig: their names in config.json where they differ
    fixed: Mapping[str, Any] = field(default_factory=lambda: {"embedding_size": None})  # fields not in config.json
    usual: Mapping[str, Any] = field(default_factory=dict)  # entries of config.json that may be left out there
    after_padding: bool = False  # the first token's position is one after the number of the padding token
    words: Names = field(default_factory=dict)  # the head that predicts masked words: our names to theirs
    follows: Names = field(default_factory=dict)  # the head that predicts whether one text follows another
    classifier: ClassifierNames = ClassifierNames()

    def entry(self, name: str) -> str:
        """The name of a field of BertConfig in config.json."""
        return self.entries.get(name, name)

    def tensors(self, layers: int) -> dict[str, str]:
        """Map the names of minBERT's tensors to the family's, without the prefix."""
        names, inside = dict(MODULES), {**LAYER, **self.layer}
        names |= {
            f"layers.{i}.{ours}": f"{self.layers}.{i}.{theirs}"
            for i in range(layers)
            for ours, theirs in inside.items()
        }
        return {f"{ours}.{kind}": f"{theirs}.{kind}" for ours, theirs in names.items() for kind in ("weight", "bias")}


MODULES = {
    "word": "embeddings.word_embeddings",
    "position": "embeddings.position_embeddings",
    "segment": "embeddings.token_type_embeddings",
    "norm": "embeddings.LayerNorm",
    "project": "embeddings_project",
    "pooler": "pooler.dense",
}
LAYER = {
    "attention.query": "attention.self.query",
    "attention.key": "attention.self.key",
    "attention.value": "attention.self.value",
    "attention.out": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "up": "intermediate.dense",
    "down": "output.dense",
    "norm": "output.LayerNorm",
}
WORDS = {
    "transform.weight": "cls.predictions.transform.dense.weight",
    "transform.bias": "cls.predictions.transform.dense.bias",
    "norm.weight": "cls.predictions.transform.LayerNorm.weight",
    "norm.bias": "cls.predictions.transform.LayerNorm.bias",
    "bias": "cls.predictions.bias",
}
FOLLOWS = {"linear.weight": "cls.seq_relationship.weight", "linear.bias": "cls.seq_relationship.bias"}


def _words(transform: str, norm: str, bias: str) -> Names:
    return {
        f"{ours}.{kind}": f"{theirs}.{kind}"
        for ours, theirs in (("transform", transform), ("norm", norm))
        for kind in ("weight", "bias")
    } | {"bias": bias}


ROBERTA: dict[str, Any] = {
    "prefix": "roberta",
    "after_padding": True,
    "words": _words("lm_head.dense", "lm_head.layer_norm", "lm_head.bias"),
    "usual": {"pad_token_id": 1, "type_vocab_size": 2},
    "classifier": OWN_LAYER,
}

FAMILIES = {
    family.name: family
    for family in (
        Family("bert", "bert", "Bert", words=WORDS, follows=FOLLOWS),
        Family("ernie", "ernie", "Ernie", words=WORDS, follows=FOLLOWS, usual={"vocab_size": 30522}),
        Family("roberta", classes="Roberta", **ROBERTA),
        Family("xlm-roberta", classes="XLMRoberta", **ROBERTA),
        Family("camembert", classes="Camembert", **ROBERTA),
        Family(
            "distilbert",
            "distilbert",
            "DistilBert",
            layers="transformer.layer",
            layer={
                "attention.query": "attention.q_lin",
                "attention.key": "attention.k_lin",
                "attention.value": "attention.v_lin",
                "attention.out": "attention.out_lin",
                "attention_norm": "sa_layer_norm",
                "up": "ffn.lin1",
                "down": "ffn.lin2",
                "norm": "output_layer_norm",
            },
            entries={
                "hidden_size": "dim",
                "num_hidden_layers": "n_layers",
                "num_attention_heads": "n_heads",
                "intermediate_size": "hidden_dim",
                "hidden_act": "activation",
                "hidden_dropout_prob": "dropout",
                "attention_probs_dropout_prob": "attention_dropout",
            },
            fixed={"embedding_size": None, "type_vocab_size": 0, "layer_norm_eps": 1e-12},
            usual={"n_layers": 6},
            words=_words("vocab_transform", "vocab_layer_norm", "vocab_projector.bias"),
            classifier=ClassifierNames(below="pre_classifier", activation="ReLU"),
        ),
        Family(
            "electra",
            "electra",
            "Electra",
            fixed={},
            usual={"embedding_size": 128, "hidden_size": 256, "num_attention_heads": 4, "intermediate_size": 1024},
            words=_words("generator_predictions.dense", "generator_predictions.LayerNorm", "generator_lm_head.bias"),
            classifier=replace(OWN_LAYER, activation="GELU"),
        ),
    )
}
