"""TorchJD: combine gradients by any aggregator of the torchjd library (Quinton and Rey, 2024).

The aggregator gets the unscaled matrix of gradients, and its result is not rescaled: most results are on the scale of a mean,
while the default of regkit is a sum. Needs the extra `torchjd`.
"""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from regkit import PluginError, hookimpl, nearest


@dataclass
class TorchJD:
    aggregator: str = "UPGrad"
    """Name of a class of torchjd.aggregation that needs no argument."""
    combine: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        try:
            from torchjd import aggregation
        except ImportError:
            raise PluginError("'torchjd' needs its library: pip install 'regkit[torchjd]'.") from None
        classes = {name: kind for name, kind in vars(aggregation).items() if isinstance(kind, type)}
        kinds = {name: kind for name, kind in classes.items() if issubclass(kind, aggregation.Aggregator)}
        if self.aggregator not in kinds:
            raise PluginError(f"'torchjd' has no aggregator '{self.aggregator}'. {nearest(self.aggregator, kinds)}")
        if hasattr(kinds[self.aggregator], "reset"):  # only aggregators that remember steps have it
            raise PluginError(
                f"'torchjd': {self.aggregator} keeps a state that cannot be saved in a checkpoint; choose another."
            )
        try:
            self.combine = kinds[self.aggregator]()
        except (TypeError, ImportError) as error:
            raise PluginError(f"'torchjd' cannot make {self.aggregator}: {error}.") from None

    @hookimpl
    def combine_gradients(self, gradients: Tensor) -> Tensor:
        combined: Tensor = self.combine(gradients)
        return combined
