"""Reference sets as tar and Parquet files."""

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet


def tar_of(files: Mapping[str, bytes], path: Path, kind: int = tarfile.PAX_FORMAT) -> Path:
    """An uncompressed tar archive, as the standard library (and so webdataset) writes it."""
    with tarfile.open(path, "w", format=kind) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            info.mtime = 1.5  # type: ignore[assignment]  # needs an extended header
            archive.addfile(info, io.BytesIO(content))
    return path


def parquet_of(columns: Mapping[str, Any], path: Path, **options: Any) -> Path:
    """A Parquet file of these columns (Arrow arrays, or what becomes one)."""
    parquet.write_table(pa.table(dict(columns)), path, **options)
    return path
