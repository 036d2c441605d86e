"""Assay's core: science and persistence, free of HTTP and of the task queue."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("assay-hub")
except PackageNotFoundError:  # a source tree on PYTHONPATH, as in the container image
    __version__ = "0.1.0"

#: Part of the identity of a result: results of another engine version are not reused.
#: Raise it in the commit that changes any figure the engine produces.
ENGINE_VERSION = "bi-bau-em/3"
