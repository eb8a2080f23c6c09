"""Resampling: scores of drawn examples are the objective's own, and every run is scored on the same."""

import itertools

import numpy as np
import pytest
import torch

from regkit.experiments.statistics import resampling
from regkit.experiments.statistics.resampling import alike, draws, resample
from regkit.experiments.statistics.scorers import CALIBRATION, SCORERS
from regkit.runs.evidence import Evidence
from regkit.tasks.objectives import (
    KINDS,
    Binary,
    Classification,
    MaskedWords,
    Multilabel,
    Objective,
    Ordinal,
    Regression,
    SoftLabels,
)
from regkit.tasks.scores import SCORES

OBJECTIVES: dict[str, Objective] = {
    "classification": Classification(6),
    "binary": Binary(),
    "regression": Regression(0.0, 5.0),
    "multilabel": Multilabel(4),
    "ordinal": Ordinal(5),
    "soft": SoftLabels(3),
    "masked words": MaskedWords(50),
}


def answers(kind: str, examples: int, seed: int = 0, ties: bool = True) -> Evidence:
    """Answers that know something of the labels; with ties, those that are alike."""
    torch.manual_seed(seed)
    objective = OBJECTIVES[kind]
    output = torch.randn(examples, *([] if objective.width == 1 else [objective.width]))
    labels = torch.randint(objective.classes if hasattr(objective, "classes") else 2, [examples])
    if kind == "binary":
        labels = torch.arange(examples) % 2
        output = output + labels
    if kind == "ordinal":
        output = output + (labels[:, None] - 2.0)
    if kind == "regression":
        labels = torch.rand(examples).mul(5 if ties else 1e3).round() / (1 if ties else 200)
        output = output + labels
    if kind == "multilabel":
        labels = torch.randint(2, [examples, 4])
    if kind == "soft":
        labels = torch.randn(examples, 3).softmax(-1)
    if kind == "masked words":
        output = torch.stack([torch.randint(5, [examples]), torch.rand(examples) * 9, torch.randint(2, [examples])], 1)
    return Evidence(objective, output.round(decimals=1) if ties else output, labels, [str(n) for n in range(examples)])


def test_every_kind_is_tried() -> None:
    assert list(OBJECTIVES) == list(KINDS)
    assert {metric for kind, metric in SCORERS if metric not in SCORES[kind]} == set(CALIBRATION)


@pytest.mark.parametrize(("examples", "ties"), [(4, True), (30, False)])
@pytest.mark.parametrize(("kind", "metric"), SCORERS)
def test_scores_from_counts_are_the_objectives_own(kind: str, metric: str, examples: int, ties: bool) -> None:
    evidence = answers(kind, examples, ties=ties)
    found = resample([evidence], metric, resamples=12)[:, 0]
    own = resampling._one_by_one([evidence], metric, 12)[:, 0]
    assert found == pytest.approx(own, abs=1e-9, nan_ok=True)
    assert np.isfinite(found).any()


@pytest.mark.parametrize("kind", ["binary", "regression", "ordinal"])
def test_a_draw_whose_labels_are_all_alike_defines_no_score_that_compares_them(kind: str) -> None:
    found = resample([answers(kind, 3)], {"binary": "auc", "regression": "pearson", "ordinal": "quadratic_kappa"}[kind])
    assert 0.05 < np.isnan(found).mean() < 0.9


def test_predictions_that_are_all_alike_correlate_with_nothing() -> None:
    evidence = answers("regression", 30)
    constant = Evidence(evidence.objective, torch.full([30], 2.3), evidence.labels, evidence.ids)
    for metric in ("pearson", "spearman"):
        assert (resample([constant], metric) == 0).all()


@pytest.mark.parametrize("metric", ["accuracy", "loss"])
def test_runs_are_scored_on_the_same_draws_whatever_stands_beside_them(metric: str) -> None:
    one, two = answers("binary", 40), answers("binary", 40, seed=1)
    both = resample([one, two], metric)
    assert both[:, :1] == pytest.approx(resample([one], metric))
    assert both[:, 1:] == pytest.approx(resample([two], metric))
    assert (resample([one, one], metric)[:, 0] == resample([one, one], metric)[:, 1]).all()


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_the_loss_of_drawn_rows_is_the_objectives_own(kind: str) -> None:
    evidence = answers(kind, 9)
    own = [evidence.objective.metrics(evidence.output[rows], evidence.labels[rows])["loss"] for rows in draws(9, 3)]
    assert resample([evidence], "loss", resamples=3)[:, 0] == pytest.approx(own, abs=1e-9)


def test_draws_depend_on_the_size_alone_and_more_of_them_begin_alike() -> None:
    few, many = list(draws(7, 3)), list(draws(7, 9))
    assert all((one == other).all() for one, other in zip(few, many, strict=False))
    assert {len(rows) for rows in many} == {7}
    assert len({tuple(rows) for rows in many}) == 9


def test_a_score_that_needs_the_rows_has_fewer_resamples() -> None:
    evidence = answers("classification", 20)
    assert resample([evidence], "loss").shape == (resampling.FEW, 1)
    assert resample([evidence], "accuracy").shape == (resampling.RESAMPLES, 1)


def test_draws_in_parts_are_those_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    evidence = answers("regression", 40)
    whole = resample([evidence], "pearson", resamples=50)
    monkeypatch.setattr(resampling, "COUNTS", 41)
    assert resample([evidence], "pearson", resamples=50) == pytest.approx(whole)


def test_answers_to_other_examples_are_not_alike() -> None:
    one = answers("binary", 9)
    other_labels = Evidence(one.objective, one.output, 1 - one.labels, one.ids)
    other_order = Evidence(one.objective, one.output, one.labels, list(reversed(one.ids)))
    fewer = Evidence(one.objective, one.output[:8], one.labels[:8], one.ids[:8])
    assert alike([one, answers("binary", 9)])
    for pair in itertools.product([one], [other_labels, other_order, fewer]):
        assert not alike(pair)
