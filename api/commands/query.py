"""`assay status`, `assay get`, `assay gate`: questions to a server."""

import re
from pathlib import Path

from rich.table import Table
from rich.text import Text

from api.commands.common import ExitCode, GateExit, client, err, exit_code_of, explain, out, print_json
from api.commands.result import verdict_text
from api.commands.target import tell_ignored
from core.domain import ArtifactRole
from core.errors import AssayError, NotFoundError
from worker.local_model import choose_from_folder, file_digest, folder_manifest

_DIGEST = re.compile(r"[0-9a-f]{64}")


def status(scan_id: str | None, server: str | None, *, as_json: bool) -> int:
    """One scan, or the newest ones."""
    try:
        with client(server) as api:
            scans = api.scans() if scan_id is None else [api.scan(scan_id)]
    except AssayError as error:
        explain(error, as_json=as_json)
        return exit_code_of(error)
    if as_json:
        print_json(scans if scan_id is None else scans[0])
        return 0
    table = Table(box=None)
    for name in ("scan", "state", "stage", "progress", "verdict", "model", "error"):
        table.add_column(name)
    for scan in scans:
        error_code = scan["error"]["code"] if scan["error"] else ""
        table.add_row(
            Text(scan["id"]),
            Text(scan["state"]),
            Text(scan["stage"] or ""),
            Text(f"{scan['progress']:.0%}"),
            verdict_text(scan["verdict"]),
            Text(scan["model"]["filename"]),
            Text(error_code),
        )
    out().print(table)
    return 0


def get(what: str, target: Path | None, role: ArtifactRole, server: str | None) -> int:
    """The report of a scan; with `target` one of its files, or the file with a digest."""
    try:
        with client(server) as api:
            if _DIGEST.fullmatch(what):
                if target is None:
                    err().print("A file needs --out.", style="red")
                    return ExitCode.USAGE
                api.download(what, target)
            elif target is None:
                print_json(api.report(what))
            else:
                found = [item["sha256"] for item in api.scan(what)["artifacts"] if item["role"] == role]
                if not found:
                    raise NotFoundError("artifact_not_found", f"This scan has no {role.value}.")
                api.download(found[0], target)
    except AssayError as error:
        explain(error)
        return exit_code_of(error)
    return 0


def gate(what: str, server: str | None, *, as_json: bool) -> int:
    """0 allow, 1 block, 2 unknown or pending, 3 whatever went wrong: everything but 0 means no."""
    try:
        digest = what if _DIGEST.fullmatch(what) else _digest_of(Path(what))
    except AssayError as error:
        explain(error)
        return ExitCode.USAGE
    with client(server) as api:
        reply = api.gate(digest)
    if as_json:
        print_json(
            reply.document
            or {"sha256": digest, "allow": False, "decision": reply.decision, "reasons": list(reply.reasons)}
        )
    else:
        word = "allow" if reply.allow else f"no ({reply.decision})"
        out().print(Text.assemble((word, "green" if reply.allow else "red"), f"  {', '.join(reply.reasons)}  {digest}"))
    if reply.error is not None:
        err().print(reply.error, style="red", markup=False)
        return GateExit.ERROR
    if reply.allow:
        return GateExit.ALLOW
    return GateExit.UNDECIDED if set(reply.reasons) <= {"unknown", "pending"} else GateExit.BLOCK


def _digest_of(path: Path) -> str:
    """Of a file; of the manifest of a folder, as scans name it. Raises InvalidInputError, HubContentError."""
    if not path.is_dir():
        return file_digest(path, "model")
    files, ignored = choose_from_folder(path)
    tell_ignored(ignored)
    return folder_manifest(files).sha256
