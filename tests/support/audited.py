"""Runs the hostile corpus in this process under an audit hook, and prints what the interpreter was asked to do.

A program of its own, because a hook cannot be taken away again.
"""

import json
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from core.config import ScanConfig
from core.context import RunContext
from core.errors import AssayError
from core.models.intake import intake
from core.models.source import Source
from tests.hostile.corpus import formats, pickles, safetensors, tensors, zips
from tests.hostile.corpus.case import CANARY_FILE, Case
from tests.support.canary import FIRED
from tests.support.checkpoints import save, tiny_network

#: Everything that would run, load, start, connect to or remove something.
WATCHED = (
    *("exec", "compile", "import", "marshal.", "pickle.", "code.", "ctypes.dlopen", "function.__new__"),
    *("os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.kill", "pty.", "subprocess."),
    *("socket.", "urllib.", "http.", "webbrowser.", "sqlite3."),
)
#: Allowed in the folder for temporary files.
FILES = ("open", "os.remove", "os.rename", "os.link", "os.symlink", "os.chmod", "shutil.")


def _is_scratch(arguments: tuple[Any, ...]) -> bool:
    path = str(arguments[0])
    return path.startswith(f"{tempfile.gettempdir()}/") and path != str(CANARY_FILE)


def main() -> None:
    seen: list[str] = []
    armed = threading.Event()

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if not armed.is_set():
            return
        if event == "open" and not (isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")):
            return
        if event.startswith(FILES) and _is_scratch(arguments):
            return
        if event.startswith(WATCHED + FILES):
            seen.append(f"{event} {str(arguments)[:200]}")

    sys.addaudithook(hook)
    outcomes: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def run(path: Path, filename: str) -> None:
            try:
                intake(Source.single(path, filename), None, ScanConfig(), folder / "intake", RunContext())
            except AssayError as error:
                outcomes[error.code] = outcomes.get(error.code, 0) + 1
            else:
                outcomes["accepted"] = outcomes.get("accepted", 0) + 1

        def run_case(case: Case) -> None:
            run(case.write(folder), case.filename)

        good = save({"state_dict": tiny_network().state_dict(), "epoch": 3}, folder / "good", "torch-zip")
        cases = [case for module in (pickles, tensors, zips, formats, safetensors) for case in module.CASES]
        cases = [case for case in cases if isinstance(case.content, bytes)]
        run(good, good.name)  # modules that are imported late are imported now
        for case in cases:
            if case.name in ("a whole network", "NaN", "truncated", "two sizes", "a million rows over 16 bytes"):
                run_case(case)
        outcomes.clear()
        armed.set()
        for case in cases:
            run_case(case)
        run(good, good.name)
        armed.clear()
    if "--show-that-it-sees" in sys.argv:
        armed.set()
        exec("1")
    print(json.dumps({"seen": seen, "outcomes": outcomes, "fired": len(FIRED), "canary": CANARY_FILE.exists()}))


if __name__ == "__main__":
    main()
