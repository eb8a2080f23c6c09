"""Objectives: what a kind of output means - its loss, its divergence, its prediction and its metrics.

Every loss and divergence is a mean over examples, and every output keeps its examples in the first dimension. The
divergences are the `l_s` of SMART (Jiang et al., ACL 2020, section 3.1): the sum of both Kullback-Leibler divergences
for distributions, the squared difference for scores. Two outputs of different shape are an error, never a broadcast.
An objective whose parts do not belong together, such as two names for three classes, is a ValueError.
"""

from regkit.tasks.objectives.binary import Binary
from regkit.tasks.objectives.classification import Classification
from regkit.tasks.objectives.kinds import KINDS, class_names, described, from_description
from regkit.tasks.objectives.masked_words import MaskedWords
from regkit.tasks.objectives.multilabel import Multilabel
from regkit.tasks.objectives.objective import (
    Distributional,
    Label,
    Mixable,
    Objective,
    Probabilistic,
    Scores,
    Smoothable,
    defined,
    differ,
)
from regkit.tasks.objectives.ordinal import Ordinal
from regkit.tasks.objectives.regression import SCALE, Regression
from regkit.tasks.objectives.soft import SoftLabels
from regkit.tasks.objectives.weights import OfWeights, balanced, weighted
from regkit.tasks.scores import LOSS, Metric

__all__ = [
    "KINDS",
    "LOSS",
    "SCALE",
    "Binary",
    "Classification",
    "Distributional",
    "Label",
    "MaskedWords",
    "Metric",
    "Mixable",
    "Multilabel",
    "Objective",
    "OfWeights",
    "Ordinal",
    "Probabilistic",
    "Regression",
    "Scores",
    "Smoothable",
    "SoftLabels",
    "balanced",
    "class_names",
    "defined",
    "described",
    "differ",
    "from_description",
    "weighted",
]
