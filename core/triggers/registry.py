"""Every trigger operator by name; importing this module registers the built-in ones."""

from core.triggers import additive as _additive
from core.triggers import blend as _blend
from core.triggers import patch as _patch
from core.triggers import smooth as _smooth
from core.triggers import tiled as _tiled
from core.triggers import warp as _warp
from core.triggers.base import TRIGGERS, ParticleOperator

__all__ = ["BUILT_IN", "TRIGGERS", "ParticleOperator"]

BUILT_IN = (
    _additive.AdditiveOperator,
    _blend.BlendOperator,
    _patch.PatchOperator,
    _smooth.SmoothOperator,
    _tiled.TiledOperator,
    _warp.WarpOperator,
)
