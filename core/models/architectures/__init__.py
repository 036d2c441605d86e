"""Our own architecture table: a suspect is rebuilt from a name in it, never from code in the upload."""

from core.models.architectures.base import Match, Shapes, SplitNetwork
from core.models.architectures.inference import Inspection, infer
from core.models.architectures.registry import FAMILIES, build, build_meta

__all__ = ["FAMILIES", "Inspection", "Match", "Shapes", "SplitNetwork", "build", "build_meta", "infer"]
