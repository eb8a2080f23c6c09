"""Families: minBERT computes what transformers computes of each, on packed tokens, and writes each in its own form."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from regkit.model import load_encoder, save_encoder
from regkit.model.families import FAMILIES
from regkit.tasks.batch import Batch

SIZES: dict[str, Any] = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 4}
SIZES |= {"intermediate_size": 24, "max_position_embeddings": 40, "layer_norm_eps": 1e-5}
TINY: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("Bert", SIZES),
    "ernie": ("Ernie", SIZES | {"use_task_id": True, "task_type_vocab_size": 3}),
    "roberta": ("Roberta", SIZES | {"type_vocab_size": 1}),
    "xlm-roberta": ("XLMRoberta", SIZES | {"type_vocab_size": 1}),
    "camembert": ("Camembert", SIZES | {"type_vocab_size": 1}),
    "distilbert": (
        "DistilBert",
        {"vocab_size": 50, "dim": 16, "n_layers": 3, "n_heads": 4, "hidden_dim": 24, "max_position_embeddings": 40},
    ),
    "electra": ("Electra", SIZES | {"embedding_size": 8}),
}
LENGTHS = (5, 24, 2, 11)


def theirs(family: str, **more: Any) -> Any:
    """A random tiny model of transformers, every tensor drawn, so that no two can be taken for each other."""
    transformers = pytest.importorskip("transformers")
    classes, shape = TINY[family]
    torch.manual_seed(1)
    config = getattr(transformers, f"{classes}Config")(**shape, **more)
    model = getattr(transformers, f"{classes}Model")(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def packed(family: str) -> Batch:
    """Sequences of very different lengths, each in two segments."""
    random = torch.Generator().manual_seed(2)
    tokens = [torch.randint(3, 50, (n,), generator=random).numpy() for n in LENGTHS]
    return Batch.pack(tokens, [torch.arange(n).ge(n // 2).long().numpy() for n in LENGTHS])


def padded_run(model: Any, batch: Batch, embeddings: Tensor | None = None) -> Tensor:
    """Hidden states of transformers on the padded batch, packed: `[tokens, width]`."""
    shape, place = (len(batch), batch.longest), (batch.sequence_of, batch.positions)
    ids, mask, segments = (torch.zeros(shape, dtype=torch.int64) for _ in range(3))
    ids += model.config.pad_token_id
    ids[place], mask[place], segments[place] = batch.tokens, 1, batch.segments
    kinds = getattr(model.config, "type_vocab_size", 0)
    more = {"token_type_ids": segments.clamp(max=kinds - 1)} if kinds else {}
    if model.config.model_type == "longformer":
        more["global_attention_mask"] = (torch.arange(shape[1]) == 0).expand(shape).long()  # as its classifier does
    if embeddings is None:
        return model(input_ids=ids, attention_mask=mask, **more).last_hidden_state[place]
    inputs = torch.zeros(*shape, embeddings.shape[1]).index_put(place, embeddings)
    return model(inputs_embeds=inputs, attention_mask=mask, **more).last_hidden_state[place]


@pytest.mark.parametrize("family", FAMILIES)
def test_hidden_states_are_those_of_transformers_padded_run(family: str, tmp_path: Path) -> None:
    model, batch = theirs(family), packed(family)
    model.save_pretrained(tmp_path)
    ours = load_encoder(tmp_path).eval()
    found = ours.encode(ours.embed(batch), batch)
    torch.testing.assert_close(found, padded_run(model, batch), rtol=1e-5, atol=1e-5)
    rows = torch.tensor([0, 7, 30])
    torch.testing.assert_close(ours.encode(ours.embed(batch), batch, rows), found[rows], rtol=1e-5, atol=1e-5)
    assert ours.longest == (38 if FAMILIES[family].after_padding else 40)


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_of_embeddings_and_weights_are_those_of_transformers(family: str, tmp_path: Path) -> None:
    model, batch = theirs(family), packed(family)
    model.save_pretrained(tmp_path)
    ours = load_encoder(tmp_path).eval()
    embeddings = ours.embed(batch).detach().requires_grad_()
    goal = torch.randn(len(batch.tokens), ours.width, generator=torch.Generator().manual_seed(3))
    (ours.encode(embeddings, batch) * goal).sum().backward()
    again = embeddings.detach().clone().requires_grad_()
    (padded_run(model, batch, again) * goal).sum().backward()
    torch.testing.assert_close(embeddings.grad, again.grad, rtol=1e-4, atol=1e-4)
    known = {name: parameter for name, parameter in model.named_parameters() if parameter.grad is not None}
    for mine, name in FAMILIES[family].tensors(3).items():
        parameter = dict(ours.named_parameters()).get(mine)
        if parameter is None or parameter.grad is None or mine == "position.weight":
            continue
        torch.testing.assert_close(parameter.grad, known[name].grad, rtol=1e-3, atol=1e-3)
    first = ours.config.first_position
    longest = first + max(LENGTHS)
    name = FAMILIES[family].tensors(3)["position.weight"]
    torch.testing.assert_close(
        ours.position.weight.grad[first:longest], known[name].grad[first:longest], rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_transformers_reads_what_is_written_as_the_same_family(family: str, tmp_path: Path) -> None:
    import json

    from safetensors.torch import save_file
    from transformers import AutoModel

    model, batch = theirs(family), packed(family)
    model.save_pretrained(tmp_path / "theirs")
    ours = load_encoder(tmp_path / "theirs")
    entries, tensors = save_encoder(ours)
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "config.json").write_text(json.dumps(entries))
    save_file(tensors, tmp_path / "ours" / "model.safetensors", metadata={"format": "pt"})
    again, said = AutoModel.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert type(again) is type(model)
    assert {name for name in said["missing_keys"] if "pooler" not in name} == set()
    torch.testing.assert_close(padded_run(again.eval(), batch), padded_run(model, batch), rtol=1e-5, atol=1e-5)
    for one, other in zip(load_encoder(tmp_path / "ours").parameters(), ours.parameters(), strict=True):
        assert torch.equal(one, other)
