"""Our own architecture table: a suspect is rebuilt from a name in it, never from code in the upload."""

from core.models.architectures.registry import FAMILIES, build, build_meta

__all__ = ["FAMILIES", "build", "build_meta"]
