"""Content-addressed storage of uploads and artifacts."""

from core.storage.local import LocalBlobStore
from core.storage.protocol import Blob, BlobStore, BlobWriter, PartialBlob

__all__ = ["Blob", "BlobStore", "BlobWriter", "LocalBlobStore", "PartialBlob"]
