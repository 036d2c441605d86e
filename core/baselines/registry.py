"""Every published defence by name; importing this module registers them."""

from core.baselines import anp as _anp
from core.baselines import bti_dbf as _bti_dbf
from core.baselines import fine_tuning as _fine_tuning
from core.baselines import ft_sam as _ft_sam
from core.baselines import i_bau as _i_bau
from core.baselines import nad as _nad
from core.baselines import neural_cleanse as _neural_cleanse
from core.baselines import sau as _sau
from core.baselines.clip import cleanclip as _cleanclip
from core.baselines.clip import decree as _decree
from core.baselines.clip import fine_tuning as _clip_fine_tuning
from core.baselines.protocol import DETECTORS, PURIFIERS

__all__ = ["BUILT_IN", "DETECTORS", "PURIFIERS"]

BUILT_IN = (
    _anp.NeuronPruning,
    _bti_dbf.DecoupledInversion,
    _fine_tuning.FineTuning,
    _ft_sam.SharpnessAwareFineTuning,
    _i_bau.ImplicitUnlearning,
    _neural_cleanse.NeuralCleanse,
    _nad.AttentionDistillation,
    _sau.SharedUnlearning,
    _cleanclip.CleanClip,
    _clip_fine_tuning.PairFineTuning,
    _decree.Decree,
)
