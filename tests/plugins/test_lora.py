"""LoRA against the same layers written out, and as a part of a run."""

import copy
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from regkit_plugins.lora import LoRA, LowRankLinear
from torch import nn
from torch.nn import functional as F

from regkit import MultitaskModel, PluginError
from regkit.model.merging import is_plain, merge
from regkit.tasks.objectives import Classification
from regkit.testing import tiny_task, tiny_tasks, tiny_trainer
from regkit.training.loop import Trainer


def trainer(plugin: LoRA, **given: Any) -> Trainer:
    return tiny_trainer({"lora": plugin}, tasks=[tiny_task("classes", Classification(3), size=12)], **given)


def trained(model: MultitaskModel) -> set[str]:
    return {name for name, weight in model.named_parameters() if weight.requires_grad}


def test_a_layer_computes_the_formula_of_the_paper() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(5, 7)
    added = LowRankLinear(layer, rank=2, scale=3.0, rate=0.0)
    values = torch.randn(11, 5)
    assert torch.equal(added(values), layer(values))  # B is 0
    nn.init.normal_(added.b)
    wanted = layer(values) + 3.0 * torch.stack([added.b @ (added.a @ value) for value in values])
    torch.testing.assert_close(added(values), wanted)
    torch.testing.assert_close(added.merged()(values), wanted)
    assert added.weight is layer.weight


def test_dropout_acts_on_what_a_is_given_and_on_nothing_else() -> None:
    torch.manual_seed(0)
    added = LowRankLinear(nn.Linear(40, 7), rank=2, scale=1.0, rate=0.5)
    nn.init.normal_(added.b)
    values = torch.ones(3, 40)
    found = added(values) - F.linear(values, added.weight, added.bias)
    assert not torch.allclose(found[0], found[1])  # each token has a mask of its own
    assert torch.equal(added.eval()(values), added(values))
    nn.init.zeros_(added.b)
    assert torch.equal(added.train()(values), F.linear(values, added.weight, added.bias))


def test_a_begins_as_wide_as_in_the_authors_code() -> None:
    torch.manual_seed(0)
    added = LowRankLinear(nn.Linear(300, 7), rank=64, scale=1.0, rate=0.0)
    authors = nn.init.kaiming_uniform_(torch.empty(64, 300), a=5**0.5)
    assert float(added.a.detach().std()) == pytest.approx(float(authors.std()), rel=0.02)


def test_only_the_additions_heads_and_a_pooler_that_is_read_are_trained() -> None:
    run = trainer(LoRA(rank=2))
    before = copy.deepcopy(run.model.state_dict())
    run.train()
    changed = {name for name, value in run.model.state_dict().items() if not torch.equal(value, before[name])}
    places = [
        f"encoder.layers.{layer}.attention.{matrix}.{part}"
        for layer in (0, 1)
        for matrix in ("query", "value")
        for part in "ab"
    ]
    heads = [f"{name}.{kind}" for name in ("encoder.pooler", "heads.classes.linear") for kind in ("weight", "bias")]
    assert changed == trained(run.model) == {*places, *heads}
    cosine = tiny_trainer({"lora": LoRA(matrices=["up", "out"])}, tasks=tiny_tasks()[:1])
    cosine.model.pooling = "mean"
    assert any(".up.a" in name for name in trained(cosine.model))


def test_the_first_step_is_that_of_the_encoder_without_additions() -> None:
    plain, run = (
        tiny_trainer({}, tasks=tiny_tasks()[:1], dropout=0.0),
        tiny_trainer({"lora": LoRA()}, tasks=tiny_tasks()[:1], dropout=0.0),
    )
    task = plain.tasks[0]
    batch = task.splits["train"].batch([0, 1, 2])
    outputs = [each.model.predict(task, batch, each.model.embed(batch)) for each in (plain, run)]
    torch.testing.assert_close(*outputs, rtol=1e-5, atol=1e-6)  # attention from [CLS] calls layers that were put in


def test_what_is_merged_computes_the_same() -> None:
    run = trainer(LoRA(rank=3, alpha=5, dropout=0.2, matrices=["query", "down"]))
    run.train()
    merged, task = merge(run.model), run.tasks[0]
    assert is_plain(merged)
    assert type(merged.get_submodule("encoder.layers.0.down")) is nn.Linear
    batch = task.splits["train"].batch([0, 1, 2])
    run.model.eval()
    outputs = [each.predict(task, batch, each.embed(batch)) for each in (run.model, merged)]
    torch.testing.assert_close(*outputs)
    assert isinstance(run.model.get_submodule("encoder.layers.0.down"), LowRankLinear)  # the model is left as it was


@pytest.mark.parametrize(
    ("plugins", "says"),
    [
        ({"lora": {"matrices": ["qury"]}}, "'lora' finds no linear layer 'qury' in the encoder. Did you mean 'query'?"),
        ({"lora": {"matrices": []}}, "'lora' finds no linear layer ''"),
        ({"lora": {}, "freeze": {}}, "the encoder is frozen in stage 'finetune'"),
    ],
)
def test_what_would_train_nothing_is_refused(plugins: Mapping[str, Any], says: str) -> None:
    from regkit.hooks import catalog

    made = {name: catalog.make(name, options) for name, options in plugins.items()}
    with pytest.raises(PluginError, match=says.replace("?", r"\?")):
        tiny_trainer(made, tasks=tiny_tasks()[:1]).train()
