"""Only: one task is trained, the others are scored."""

import pytest
import torch
from regkit_plugins.only import Only

from regkit import PluginError
from regkit.cli.plan import first_epoch
from regkit.hooks import catalog
from tests.helpers import stages_of
from tests.plugins.turns import Log, epochs_of, small, trainer_of


def test_only_trains_the_named_task_and_scores_the_others() -> None:
    log = Log()
    trainer = trainer_of({"only": Only("sts")}, tasks=small(), epochs=2, observers=[log])
    before = {name: weight.clone() for name, weight in trainer.model.heads["sst"].named_parameters()}
    trainer.train()
    assert log.steps == [["sts"]] * 4
    assert list(log.scores[-1][1]) == ["sst", "quora", "sts"]
    assert all(torch.equal(weight, before[name]) for name, weight in trainer.model.heads["sst"].named_parameters())


@pytest.mark.parametrize(("name", "batches"), [("sst", 266), ("quora", 804), ("sts", 188)])
def test_an_epoch_of_only_is_that_of_its_task(name: str, batches: int) -> None:
    assert epochs_of(trainer_of({"only": Only(name)}, epochs=2)) == [[(name,)] * batches] * 2


def test_only_an_unknown_task_is_refused() -> None:
    trainer = trainer_of({"only": Only("sts2")})
    ((stage, tasks),) = stages_of(trainer)
    with pytest.raises(PluginError) as refused:
        first_epoch(trainer, stage, tasks)
    assert str(refused.value) == "'only' knows no task 'sts2'. Did you mean 'sts'? Available: quora, sst, sts."
    with pytest.raises(PluginError, match=r"^'only' needs task: "):
        catalog.make("only", {})
