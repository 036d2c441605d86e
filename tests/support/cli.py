"""`assay` in tests: in process, which is quick, or as a process of its own."""

import os
import subprocess
import sys
from dataclasses import dataclass
from typing import IO

import pytest

from api.cli import run
from tests.support.processes import ROOT, assay_environment
from tests.support.servers import die_with_parent


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str


class Cli:
    """Runs commands in this process, with the given settings and no others."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, **settings: object) -> None:
        self._capsys = capsys
        for name in assay_settings():
            monkeypatch.delenv(name)
        monkeypatch.setenv("COLUMNS", "200")
        for name, value in settings.items():
            monkeypatch.setenv(f"ASSAY_{name.upper()}", str(value))

    def __call__(self, *arguments: object) -> Ran:
        self._capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        captured = self._capsys.readouterr()
        return Ran(int(code), captured.out, captured.err)


def assay_settings() -> list[str]:
    """Names of the settings in our own environment."""
    return [name for name in os.environ if name.startswith("ASSAY_")]


def start(*arguments: object, log: IO[str] | None = None, **settings: object) -> "subprocess.Popen[str]":
    """`assay` as a process with the given settings and no others; its output goes to `log` or to pipes."""
    command = [sys.executable, "-m", "api.cli", *map(str, arguments)]
    target = subprocess.PIPE if log is None else log
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=assay_environment(**settings),
        stdout=target,
        stderr=target,
        text=True,
        preexec_fn=die_with_parent,
    )


def run_process(*arguments: object, timeout_s: float = 60, **settings: object) -> Ran:
    """Run `assay` to its end."""
    process = start(*arguments, **settings)
    out, err = process.communicate(timeout=timeout_s)
    return Ran(process.returncode, out, err)
