"""Losses: of numbers and distributions, of classes, of yes or no, of margins, of sequences.

What all of them share, `reduction` above all, is said at `jaxnn.modules.loss._loss.Loss`.
"""

from .adaptive_log_softmax import AdaptiveLogSoftmaxWithLoss as AdaptiveLogSoftmaxWithLoss
from .binary import BCELoss as BCELoss
from .binary import BCEWithLogitsLoss as BCEWithLogitsLoss
from .cross_entropy import CrossEntropyLoss as CrossEntropyLoss
from .cross_entropy import LinearCrossEntropyLoss as LinearCrossEntropyLoss
from .cross_entropy import NLLLoss as NLLLoss
from .cross_entropy import NLLLoss2d as NLLLoss2d
from .margin import CosineEmbeddingLoss as CosineEmbeddingLoss
from .margin import HingeEmbeddingLoss as HingeEmbeddingLoss
from .margin import MarginRankingLoss as MarginRankingLoss
from .margin import MultiLabelMarginLoss as MultiLabelMarginLoss
from .margin import MultiLabelSoftMarginLoss as MultiLabelSoftMarginLoss
from .margin import MultiMarginLoss as MultiMarginLoss
from .margin import SoftMarginLoss as SoftMarginLoss
from .regression import GaussianNLLLoss as GaussianNLLLoss
from .regression import HuberLoss as HuberLoss
from .regression import KLDivLoss as KLDivLoss
from .regression import L1Loss as L1Loss
from .regression import MSELoss as MSELoss
from .regression import PoissonNLLLoss as PoissonNLLLoss
from .regression import SmoothL1Loss as SmoothL1Loss
from .sequence import CTCLoss as CTCLoss
from .triplet import TripletMarginLoss as TripletMarginLoss
from .triplet import TripletMarginWithDistanceLoss as TripletMarginWithDistanceLoss
