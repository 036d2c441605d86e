"""`assay inspect`: here and on a server the same answer; the exit code says whether the model could be scanned."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.checkpoints import tiny_network
from tests.support.cli import Cli
from tests.support.repository_layouts import vit


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "net.pth"
    torch.save(tiny_network().state_dict(), path)
    return path


class _Runs:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("true",)


def test_a_table_for_people(cli: Cli, checkpoint: Path) -> None:
    ran = cli("inspect", checkpoint, "--preset", "fast")
    assert ran.code == 0, ran.err
    for text in ("accepted", "preactresnet-b1.1-w8.16", "10", "picklescan", "reference set", "fast: about"):
        assert text in ran.out


def test_a_folder_here_and_on_a_server(cli: Cli, remote: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    vit(folder)
    here = cli("inspect", folder, "--json", "--local")
    there = remote("inspect", folder, "--json")
    assert (here.code, there.code) == (0, 0), here.err + there.err
    for ran in (here, there):
        report = json.loads(ran.out)
        assert report["layout"] == "transformers"
        assert report["network"]["labels"] == ["cat", "dog", "owl", "yak"]
        assert report["network"]["architecture"] == "transformers:vit"


def test_refusals_have_their_exit_code(cli: Cli, tmp_path: Path) -> None:
    torch.save({"a": _Runs()}, tmp_path / "unsafe.pth")
    ran = cli("inspect", tmp_path / "unsafe.pth")
    assert ran.code == 4
    assert "unsafe_" in ran.out
    (tmp_path / "broken.pth").write_bytes(b"PK\x03\x04 and no more")
    assert cli("inspect", tmp_path / "broken.pth").code == 3
    assert cli("inspect", tmp_path / "nothing.pth").code == 64
