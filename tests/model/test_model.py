"""minBERT: transformers' numbers whatever else is in the batch, dropout that is fair and repeatable, and the heads."""

import csv
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from regkit.base.errors import ConfigError
from regkit.base.randomness import Streams
from regkit.model import Bert, BertConfig, MultitaskModel, load_encoder, save_encoder
from regkit.model.dropout import LEVELS, Dropout, dropout
from regkit.model.heads import Cosine, Linear, PairFeatures, head_for
from regkit.model.tokenizer import Tokenizer
from regkit.tasks.batch import Batch
from regkit.tasks.objectives import Binary, Classification, Objective, Ordinal, Regression
from regkit.tasks.task import PairMode
from regkit.testing import TINY, tiny_task, tiny_tasks

RAGGED = (5, 2, 9, 2, 7)
FILES = {"texts": ("ids-sst-dev.csv", ["sentence"], 16), "pairs": ("quora-dev.csv", ["sentence1", "sentence2"], 8)}


def read_together(course: Path, tokenizer: Tokenizer, kind: str) -> Batch:
    """Real rows, one sequence each, a pair's second text as segment 1."""
    name, columns, count = FILES[kind]
    with (course / name).open(encoding="utf8", newline="") as file:
        rows = [[row[column] for column in columns] for row in islice(csv.DictReader(file, delimiter="\t"), count)]
    parts = [[[*ids, tokenizer.sep] for ids in tokenizer.encode(row)] for row in rows]
    for first, *_ in parts:
        first.insert(0, tokenizer.cls)
    segments = [np.repeat(np.arange(len(row)), [len(part) for part in row]) for row in parts]
    return Batch.pack([np.concatenate(row) for row in parts], segments)


def random_batch(lengths: tuple[int, ...], vocabulary: int = TINY.vocab_size, **more: int) -> Batch:
    """Random tokens, the later half of each sequence in segment 1."""
    random = np.random.default_rng(0)
    tokens = [random.integers(1, vocabulary, length) for length in lengths]
    return Batch.pack(tokens, [np.arange(length) >= (length + 1) // 2 for length in lengths], **more)


def tiny_bert(**changes: object) -> Bert:
    """A tiny model with biases and layer norms that are not those of a fresh one, which hide what they multiply."""
    torch.manual_seed(0)
    model = Bert(replace(TINY, **changes))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def transformers_bert(config: BertConfig) -> torch.nn.Module:
    """Transformers' BertModel of this shape, its attention spelled out."""
    from transformers import BertConfig as TheirConfig
    from transformers import BertModel

    return BertModel(TheirConfig(**vars(config), attn_implementation="eager"))


def twin(ours: Bert) -> torch.nn.Module:
    """Transformers' model with our weights."""
    theirs = transformers_bert(ours.config).eval()
    theirs.load_state_dict({name.removeprefix("bert."): tensor for name, tensor in save_encoder(ours)[1].items()})
    return theirs


def padded(packed: Tensor, batch: Batch) -> Tensor:
    return pad_sequence(packed.split(batch.lengths), batch_first=True)


def run_theirs(model: torch.nn.Module, batch: Batch, **inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Packed hidden states and pooled output of transformers' model on the batch, padded for it."""
    seen = padded(torch.ones_like(batch.tokens), batch)
    given = inputs or {"input_ids": padded(batch.tokens, batch)}
    found = model(attention_mask=seen, token_type_ids=padded(batch.segments, batch), **given)
    return found.last_hidden_state[seen.bool()], found.pooler_output


def run_ours(model: Bert, batch: Batch) -> tuple[Tensor, Tensor]:
    hidden = model.encode(model.embed(batch), batch)
    return hidden, model.pool(hidden[batch.starts])


def gradients(model: Bert) -> dict[str, Tensor]:
    """Its gradients under transformers' names: what a checkpoint would hold were they the weights."""
    with torch.device("meta"):
        holder = Bert(model.config)
    holder.load_state_dict({name: parameter.grad for name, parameter in model.named_parameters()}, assign=True)
    return {name.removeprefix("bert."): tensor for name, tensor in save_encoder(holder)[1].items()}


@pytest.fixture(scope="module", params=["bert_tiny", "minilm"])
def loaded(request: pytest.FixtureRequest) -> tuple[Bert, torch.nn.Module, Tokenizer]:
    """A real checkpoint as both libraries read it; a pooler that it lacks is ours in both."""
    from transformers import BertModel

    folder = request.getfixturevalue(request.param)
    ours = load_encoder(folder).eval()
    theirs = BertModel.from_pretrained(folder, attn_implementation="eager").eval()
    theirs.pooler.dense.load_state_dict(ours.pooler.state_dict())
    return ours, theirs, Tokenizer.load(folder)


@pytest.fixture
def pair(loaded: tuple[Bert, torch.nn.Module, Tokenizer]) -> tuple[Bert, torch.nn.Module, Tokenizer]:
    """The same, without the gradients of an earlier test."""
    for model in loaded[:2]:
        model.zero_grad()
    return loaded


@pytest.mark.parametrize("kind", FILES)
def test_hidden_states_and_pooled_output_equal_those_of_transformers(pair, course: Path, kind: str) -> None:
    ours, theirs, tokenizer = pair
    batch = read_together(course, tokenizer, kind)
    assert batch.ragged
    assert batch.segments.any() == (kind == "pairs")
    with torch.no_grad():
        torch.testing.assert_close(run_ours(ours, batch), run_theirs(theirs, batch), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("kind", "rows"), [("texts", "starts"), ("pairs", "all")])
def test_gradients_of_every_parameter_equal_those_of_transformers(pair, course: Path, kind: str, rows: str) -> None:
    ours, theirs, tokenizer = pair
    batch = read_together(course, tokenizer, kind)
    chosen = batch.starts if rows == "starts" else torch.arange(len(batch.tokens))
    hidden = ours.encode(ours.embed(batch), batch, batch.starts if rows == "starts" else None)
    weights = torch.linspace(-1, 1, hidden.numel()).view_as(hidden)  # a plain sum says little behind a layer norm
    pooled = ours.pool(hidden if rows == "starts" else hidden[batch.starts])
    (pooled.square().sum() + (hidden * weights).sum()).backward()
    hidden, pooled = run_theirs(theirs, batch)
    (pooled.square().sum() + (hidden[chosen] * weights).sum()).backward()
    found, wanted = gradients(ours), {name: parameter.grad for name, parameter in theirs.named_parameters()}
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        scale = max(1.0, gradient.abs().max().item())
        assert (found[name] - gradient).abs().max() < 1e-5 * scale, name


@pytest.mark.parametrize(
    ("lengths", "activation"),
    [((5,), "gelu"), ((1,), "relu"), ((7, 7, 7), "gelu"), ((32, 3), "relu"), (RAGGED, "gelu_new")],
)
def test_any_lengths_and_activation_give_the_numbers_of_transformers(lengths: tuple[int, ...], activation: str) -> None:
    ours = tiny_bert(hidden_act=activation, layer_norm_eps=1e-3).eval()
    batch = random_batch(lengths)
    found, wanted = run_ours(ours, batch), run_theirs(twin(ours), batch)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    starts = ours.encode(ours.embed(batch), batch, batch.starts)
    torch.testing.assert_close(starts, wanted[0][batch.starts], rtol=1e-5, atol=1e-5)


def test_a_perturbed_embedding_is_what_transformers_calls_inputs_embeds() -> None:
    ours, batch = tiny_bert().eval(), random_batch(RAGGED)
    embeddings = ours.embed(batch)
    assert torch.equal(embeddings, ours.word.weight[batch.tokens])
    moved = embeddings + torch.randn_like(embeddings)
    found = ours.encode(moved, batch)
    wanted, _ = run_theirs(twin(ours), batch, inputs_embeds=padded(moved, batch))
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_dropout_acts_at_the_places_where_transformers_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[float] = []

    def draw(shape: Sequence[int], rate: float) -> tuple[Tensor, float]:  # a "dropout" that can be compared
        calls.append(rate)
        return (1 + 0.5 * torch.cos(torch.arange(shape[-1]) + len(calls))).repeat(*shape[:-1], 1), 1.0

    ours, batch = tiny_bert(hidden_dropout_prob=0.25, attention_probs_dropout_prob=0.5).train(), random_batch(RAGGED)
    theirs = twin(ours).train()
    monkeypatch.setattr("regkit.model.dropout.draw", draw)
    monkeypatch.setattr("regkit.model.attention_dropout.draw", draw)
    found = run_ours(ours, batch)
    rates = calls.copy()
    calls.clear()
    monkeypatch.setattr(
        "torch.nn.functional.dropout", lambda values, p=0.5, *_, **__: values * draw(values.shape, p)[0]
    )
    torch.testing.assert_close(found, run_theirs(theirs, batch), rtol=1e-5, atol=1e-5)
    assert rates == calls == [0.25, 0.5, 0.25, 0.25, 0.5, 0.25, 0.25]


def test_training_without_a_dropped_number_equals_evaluation() -> None:
    model, batch = tiny_bert(hidden_dropout_prob=0.0, attention_probs_dropout_prob=1e-9), random_batch(RAGGED)
    model.layers[0].attention.rate = 1e-9  # rounds to nothing, yet takes the way that training takes
    for rows in (None, batch.starts):
        trained = model.train().encode(model.embed(batch), batch, rows)
        torch.testing.assert_close(trained, model.eval().encode(model.embed(batch), batch, rows), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("lengths", [RAGGED, (6, 6, 6)], ids=str)
def test_rows_choose_among_all_hidden_states(lengths: tuple[int, ...]) -> None:
    model, batch = tiny_bert().eval(), random_batch(lengths)
    embeddings = model.embed(batch)
    whole = model.encode(embeddings, batch)
    assert whole.shape == (sum(lengths), TINY.hidden_size)
    for rows in (batch.starts, batch.starts.clone(), torch.tensor([7, 0, 7, 3])):
        torch.testing.assert_close(model.encode(embeddings, batch, rows), whole[rows], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("task", tiny_tasks(), ids=lambda task: task.name)
def test_no_example_knows_its_neighbours(task) -> None:
    model = MultitaskModel(tiny_bert(), [task], Streams(0)).double().eval()
    examples = task.splits["train"]

    def predict(rows: list[int]) -> Tensor:
        batch = examples.batch(rows)
        return model.predict(task, batch, model.embed(batch))

    together = predict(list(range(12)))
    alone = torch.cat([predict([row]) for row in range(12)])
    torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-9)
    assert together.flatten(1).std(0).min() > 1e-3 if together.dim() > 1 else together.std() > 1e-3


def test_moving_one_example_moves_no_other() -> None:
    model, batch = tiny_bert().eval(), random_batch(RAGGED)
    embeddings = model.embed(batch).detach().requires_grad_()
    owner = batch.sequence_of == 2
    (slope,) = torch.autograd.grad(model.encode(embeddings, batch)[owner].square().sum(), embeddings)
    assert slope[owner].abs().min(1).values.all()
    assert not slope[~owner].any()


@pytest.mark.parametrize("rate", [0.1, 0.5, 30 / LEVELS])
def test_dropout_drops_its_share_and_keeps_the_mean(rate: float) -> None:
    torch.manual_seed(0)
    count, share = 2**20, round(rate * LEVELS) / LEVELS
    found = dropout(torch.full((count,), 3.0), rate)
    dropped = (found == 0).double().mean().item()
    assert abs(dropped - share) < 5 * (share * (1 - share) / count) ** 0.5
    kept = found[found != 0]
    assert (kept == kept[0]).all()
    assert kept[0].item() == pytest.approx(3 / (1 - share), rel=1e-6)
    assert found.mean().item() == pytest.approx(3, rel=5 * (share / (1 - share) / count) ** 0.5)


def test_dropout_rates_are_exact_to_one_in_65536() -> None:
    torch.manual_seed(0)
    assert dropout(torch.ones(2**20), 0.4 / LEVELS).min() == 1
    scales = [dropout(torch.ones(64, dtype=torch.float64), steps / LEVELS).max().item() for steps in (100, 101)]
    assert scales == [LEVELS / (LEVELS - 100), LEVELS / (LEVELS - 101)]


def test_dropout_close_to_one_keeps_close_to_nothing() -> None:
    torch.manual_seed(0)
    assert (dropout(torch.ones(10_000), 1 - 1e-7) != 0).double().mean() < 0.01


def test_dropout_treats_every_number_apart() -> None:
    torch.manual_seed(0)
    kept = (dropout(torch.ones(2**20), 0.5) != 0).double() - 0.5
    for lag in (1, 2, 3, 4, 8, 2**18, 2**19):  # four numbers share 64 random bits
        assert abs((kept[lag:] * kept[:-lag]).mean()) < 5 * 0.25 / 2**9.5


@pytest.mark.parametrize("shape", [(), (0,), (3,), (5, 7), (2, 3, 4, 5)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_dropout_keeps_shape_and_type(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    found = dropout(torch.ones(shape, dtype=dtype), 0.5)
    assert (found.shape, found.dtype) == (torch.Size(shape), dtype)
    assert ((found == 0) | (found == 2)).all()


def test_dropout_gradient_flows_through_what_was_kept_only() -> None:
    values = torch.rand(1000).add(1).requires_grad_()
    found = dropout(values, 0.3)
    found.sum().backward()
    assert torch.equal(values.grad == 0, found == 0)
    torch.testing.assert_close(values.grad, (found / values).detach())


def test_dropout_is_replayed_by_the_seed_and_absent_in_evaluation() -> None:
    layer, values = Dropout(0.5), torch.ones(1000)
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(layer.train()(values))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    state = torch.get_rng_state()
    assert layer.eval()(values) is values
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("place", ["hidden_dropout_prob", "attention_probs_dropout_prob"])
def test_each_dropout_is_active_in_training_and_absent_in_evaluation(place: str) -> None:
    rates = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, place: 0.5}
    model, batch = tiny_bert(**rates), random_batch(RAGGED)

    def output(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return model.encode(model.embed(batch), batch)

    one, again, other = output(1), output(1), output(2)
    assert torch.equal(one, again)
    assert (one - other).abs().mean() > 1e-2
    model.eval()
    assert torch.equal(output(1), output(2))


@pytest.mark.parametrize(
    ("objective", "shape"),
    [(Classification(3), (4, 3)), (Classification(2), (4, 2)), (Binary(), (4,)), (Regression(0, 5), (4,))],
)
@pytest.mark.parametrize("pair_mode", [None, "cross_encoder", "bi_encoder"])
def test_output_is_one_number_an_example_or_one_a_class(
    objective: Objective, shape: tuple[int, ...], pair_mode: str | None
) -> None:
    task = tiny_task("task", objective, pair_mode)
    model = MultitaskModel(tiny_bert(), [task], Streams(0))
    for rows in (range(4), [0]):
        batch = task.splits["train"].batch(list(rows))
        assert model.predict(task, batch, model.embed(batch)).shape == (len(rows), *shape[1:])


def test_a_prediction_is_the_head_on_the_pooled_first_tokens() -> None:
    task = tiny_task("binary", Binary(), "bi_encoder")
    model = MultitaskModel(tiny_bert(), [task], Streams(0)).eval()
    batch = task.splits["train"].batch([3, 1, 4])
    _, pooled = run_ours(model.encoder, batch)
    found = model.predict(task, batch, model.embed(batch))
    torch.testing.assert_close(found, model.heads["binary"](pooled), rtol=1e-5, atol=1e-6)


def test_cosine_maps_opposite_right_and_equal_angles_onto_the_scale() -> None:
    sides = torch.tensor([[1.0, 0], [2, 0], [1, 0], [0, 3], [1, 1], [-1, -1]])
    torch.testing.assert_close(Cosine()(sides), torch.tensor([5.0, 0, -5]))
    assert not list(Cosine().parameters())


def test_pair_features_are_both_vectors_their_distance_and_their_product() -> None:
    torch.manual_seed(0)
    head, vectors = PairFeatures(6, Classification(3), 0.0), torch.randn(8, 6)
    for example, output in enumerate(head(vectors)):
        one, two = vectors[2 * example], vectors[2 * example + 1]
        wanted = torch.cat([one, two, (one - two).abs(), one * two]) @ head.linear.weight.T + head.linear.bias
        torch.testing.assert_close(output, wanted)


def test_a_linear_head_begins_in_the_middle_of_the_scale_and_drops_in_training() -> None:
    head, vectors = Linear(64, Regression(1, 101), 0.5), torch.randn(32, 64)
    assert head.linear.bias.item() == 2.5
    assert head.linear.weight.std().item() == pytest.approx(0.02, rel=0.5)
    assert not torch.equal(head(vectors), head(vectors))
    torch.testing.assert_close(head.eval()(vectors), (vectors @ head.linear.weight.T + head.linear.bias)[:, 0])


def test_a_pair_read_apart_gets_a_cosine_for_scores_and_features_for_classes() -> None:
    assert type(head_for(tiny_task("a", Regression(0, 5), "bi_encoder"), tiny_bert(), 0.1)) is Cosine
    assert type(head_for(tiny_task("a", Binary(), "bi_encoder"), tiny_bert(), 0.1)) is PairFeatures
    assert type(head_for(tiny_task("a", Binary(), "cross_encoder"), tiny_bert(), 0.1)) is Linear
    assert type(head_for(tiny_task("a", Regression(0, 5)), tiny_bert(), 0.1)) is Linear


@pytest.mark.parametrize("pair_mode", [None, "cross_encoder", "bi_encoder"])
def test_an_ordinal_head_is_one_score_and_thresholds_that_all_texts_share(pair_mode: PairMode | None) -> None:
    objective = Ordinal(5)
    task = tiny_task("stars", objective, pair_mode)
    head = head_for(task, tiny_bert(), 0.0)
    vectors = 3 * torch.randn(2 * 6 if pair_mode == "bi_encoder" else 6, tiny_bert().width)
    above = objective.above(head(vectors))
    torch.testing.assert_close(above.diff(dim=1), torch.full((6, 3), -2.0))  # 2 apart at the start
    nn.init.zeros_(head.score.linear.weight)
    torch.testing.assert_close(objective.above(head(vectors))[0], torch.tensor([3.0, 1, -1, -3]))
    assert {name: list(tensor.shape) for name, tensor in head.state_dict().items()}.items() >= {"gaps": [3]}.items()


def test_thresholds_learn_as_fast_as_the_score() -> None:
    """With AdamW, which moves every weight alike, texts of the middle class alone part its thresholds."""
    objective = Ordinal(3)
    head = head_for(tiny_task("stars", objective), Bert(replace(TINY, hidden_size=256)), 0.0)
    optimizer = torch.optim.AdamW(head.parameters(), lr=5e-3)
    vectors = torch.randn(16, 256)
    for _ in range(20):
        optimizer.zero_grad()
        objective.loss(head(vectors), torch.ones(16, dtype=torch.int64)).backward()
        optimizer.step()
    assert objective.above(head(vectors)).diff(dim=1).abs().min() > 3


def test_one_more_task_leaves_the_other_heads_as_they_were() -> None:
    first, second = tiny_task("first", Classification(3)), tiny_task("second", Classification(3))
    alone = MultitaskModel(tiny_bert(), [first], Streams(7)).heads["first"].linear.weight
    for tasks in ([first, second], [second, first]):
        state = torch.get_rng_state()
        heads = MultitaskModel(tiny_bert(), tasks, Streams(7)).heads
        assert torch.equal(heads["first"].linear.weight, alone)
        assert not torch.equal(heads["second"].linear.weight, alone)
        assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(MultitaskModel(tiny_bert(), [first], Streams(8)).heads["first"].linear.weight, alone)


@pytest.mark.parametrize("name", ["train", "parameters", "first"])
def test_a_task_of_a_name_that_is_taken_is_refused(name: str) -> None:
    tasks = [tiny_task("first", Binary()), tiny_task(name, Binary())]
    with pytest.raises(ConfigError, match=f"'{name}'"):
        MultitaskModel(tiny_bert(), tasks, Streams(0))


def test_shared_parameters_are_the_encoders_that_may_change() -> None:
    model = MultitaskModel(tiny_bert(), tiny_tasks(), Streams(0))
    assert list(map(id, model.shared_parameters())) == list(map(id, model.encoder.parameters()))
    model.encoder.word.requires_grad_(False)
    assert len(list(model.shared_parameters())) == len(list(model.encoder.parameters())) - 1


def test_fresh_weights_are_berts_own() -> None:
    torch.manual_seed(0)
    model = Bert(replace(TINY, vocab_size=5000, initializer_range=0.03))
    assert model.word.weight.std().item() == pytest.approx(0.03, rel=0.02)
    assert model.layers[1].attention.query.weight.std().item() == pytest.approx(0.03, rel=0.1)
    assert model.word.weight.abs().max() > 3 * 0.03  # normal, not uniform
    assert not model.layers[1].attention.query.bias.any()
    assert (model.norm.weight == 1).all()


def test_torch_func_takes_the_gradient_of_the_model() -> None:
    """With the dropout of training, and of texts that differ in length."""
    (task, *_) = tiny_tasks()
    model = MultitaskModel(tiny_bert(), [task], Streams(0)).train()
    batch = task.splits["train"].batch([0, 1, 2])
    weights = {name: weight.detach() for name, weight in model.named_parameters()}

    def total(weights: dict[str, Tensor]) -> Tensor:
        torch.manual_seed(1)
        with torch.nn.utils.stateless._reparametrize_module(model, weights):
            return model.predict(task, batch, model.embed(batch)).sum()

    found = torch.func.grad(total)(weights)
    torch.manual_seed(1)
    model.predict(task, batch, model.embed(batch)).sum().backward()
    for name, weight in model.named_parameters():
        torch.testing.assert_close(found[name], torch.zeros_like(weight) if weight.grad is None else weight.grad)


def test_several_outputs_have_their_gradients_at_once_as_one_by_one() -> None:
    """As a plugin with a term of the Jacobian asks for them, dropout and all."""
    (task, *_) = tiny_tasks()
    model = MultitaskModel(tiny_bert(), [task], Streams(0)).train()
    batch = task.splits["train"].batch([0, 1, 2])
    output = model.predict(task, batch, model.embed(batch))[0]
    weights = list(model.encoder.parameters())
    ask = partial(torch.autograd.grad, retain_graph=True, allow_unused=True)
    found = ask(output, weights, torch.eye(len(output)), is_grads_batched=True)
    for row, alone in enumerate(output):
        for ours, theirs in zip(found, ask(alone, weights), strict=True):
            if theirs is not None:
                torch.testing.assert_close(ours[row], theirs)
