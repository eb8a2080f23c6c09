"""Cost: the promise that a step with a plugin takes as many operations as the plugin says."""

from regkit.base.operations import Operations
from regkit.testing.tiny import Plugins, tiny_tasks, tiny_trainer, unscored
from regkit.testing.verdicts import Factory, NotApplicableError, Tasks

TOLERANCE = 0.1  # of the declared cost: the tiny model's heads and embeddings are a larger part than a real one's


def cost_is_as_declared(factory: Factory, tasks: Tasks = tiny_tasks) -> None:
    """Check that a run takes the operations that `cost` declares, in those of a run without the plugin.

    They are those of matrix products, forward and backward, counted as torch does. Of several plugins, costs multiply.
    """
    declared = {name: float(plugin.cost) for name, plugin in factory().items() if hasattr(plugin, "cost")}
    if not declared:
        raise NotApplicableError("it has no attribute `cost`")
    found = _operations(factory(), tasks) / _operations({}, tasks)
    wanted = 1.0
    for cost in declared.values():
        wanted *= cost
    assert abs(found - wanted) <= TOLERANCE * wanted, (
        f"a step takes {found:.2f} times the operations of a plain one, and {wanted:.2f} is declared as the cost"
    )


def _operations(plugins: Plugins, tasks: Tasks) -> int:
    operations = Operations()
    with operations:
        tiny_trainer(plugins, tasks=unscored(tasks())).train()
    return operations.count
