"""Losses: of numbers and distributions, of classes, of yes or no, of margins, of sequences."""

from .binary import binary_cross_entropy as binary_cross_entropy
from .binary import binary_cross_entropy_with_logits as binary_cross_entropy_with_logits
from .cross_entropy import cross_entropy as cross_entropy
from .cross_entropy import linear_cross_entropy as linear_cross_entropy
from .cross_entropy import nll_loss as nll_loss
from .margin import cosine_embedding_loss as cosine_embedding_loss
from .margin import hinge_embedding_loss as hinge_embedding_loss
from .margin import margin_ranking_loss as margin_ranking_loss
from .margin import multi_margin_loss as multi_margin_loss
from .margin import multilabel_margin_loss as multilabel_margin_loss
from .margin import multilabel_soft_margin_loss as multilabel_soft_margin_loss
from .margin import soft_margin_loss as soft_margin_loss
from .regression import gaussian_nll_loss as gaussian_nll_loss
from .regression import huber_loss as huber_loss
from .regression import kl_div as kl_div
from .regression import l1_loss as l1_loss
from .regression import mse_loss as mse_loss
from .regression import poisson_nll_loss as poisson_nll_loss
from .regression import smooth_l1_loss as smooth_l1_loss
from .sequence import ctc_loss as ctc_loss
from .triplet import triplet_margin_loss as triplet_margin_loss
from .triplet import triplet_margin_with_distance_loss as triplet_margin_with_distance_loss
