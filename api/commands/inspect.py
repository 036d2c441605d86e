"""`assay inspect`: what a model is and whether it could be scanned, here or on a server, without scanning it."""

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

from rich.table import Table
from rich.text import Text

from api.commands.common import ExitCode, client, exit_code_of, explain, load_settings, out, print_json
from api.commands.progress import ScanProgress
from api.commands.scan import stop_on_interrupt
from api.commands.target import Target, bring, send
from api.schemas import ScanOptions
from core.config import ScanConfig
from core.domain import PurifyMode
from core.errors import AssayError

_EXITS = {
    "accepted": ExitCode.CLEAN,
    "unsafe": ExitCode.REFUSED,
    "unsupported": ExitCode.REFUSED,
    "invalid": ExitCode.FAILED,
}
_MOST_LABELS, _MOST_FILES = 8, 12


@dataclass(frozen=True, slots=True)
class InspectRequest:
    """What the command line asked for; `server` None: look at it on this machine."""

    model: Target
    options: ScanOptions
    server: str | None
    as_json: bool


def run(request: InspectRequest) -> ExitCode:
    """Look, show; the exit code says whether it could be scanned."""
    try:
        with tempfile.TemporaryDirectory(prefix="assay-") as folder, stop_on_interrupt() as stop:
            config = request.options.to_config(has_reference=False)
            look = _on_server if request.server else _here
            with ScanProgress(PurifyMode.NEVER) as progress:
                report = look(request, config, Path(folder), progress, stop)
    except AssayError as error:
        explain(error, as_json=request.as_json)
        return exit_code_of(error)
    if request.as_json:
        print_json(report)
    else:
        _show(report)
    return _EXITS[report["outcome"]]


def _here(
    request: InspectRequest, config: ScanConfig, work_dir: Path, progress: ScanProgress, stop: Event
) -> dict[str, Any]:
    from worker.children import real_children
    from worker.inspection import inspect_model

    settings = load_settings()
    fetched = work_dir / "fetched"
    fetched.mkdir()
    model = bring(request.model, fetched, progress, stop)
    report = inspect_model(
        model.path,
        model.filename,
        model.files,
        config,
        work_dir,
        real_children(settings.sandbox),
        threads=settings.threads,
        should_stop=stop.is_set,
    )
    return report.model_dump(mode="json")


def _on_server(
    request: InspectRequest, config: ScanConfig, work_dir: Path, progress: ScanProgress, stop: Event
) -> dict[str, Any]:
    with client(request.server) as server:
        return server.inspect(send(request.model, server, progress, stop), config)


def _show(report: Mapping[str, Any]) -> None:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column()
    for name, value in _rows(report):
        table.add_row(name, value if isinstance(value, Text) else Text(value))
    out().print(table)


def _rows(report: Mapping[str, Any]) -> Iterator[tuple[str, Text | str]]:
    style = "bold green" if report["outcome"] == "accepted" else "bold red"
    yield "outcome", Text(report["outcome"], style=style)
    for finding in report["findings"]:
        yield "because", f"{finding['code']}: {finding['detail']}"
        if finding["hint"]:
            yield "", finding["hint"]
    yield "layout", report["layout"] or "-"
    if report["kind"] is not None:
        yield "kind", {"clip": "a model of images and texts", "classifier": "an image classifier"}[report["kind"]]
    if report["network"] is not None:
        yield from _network(report["network"])
    for file in report["files"][:_MOST_FILES]:
        yield "file", f"{file['path']}: {file['container']}, {file['tensors']} tensors, {_opinion(file)}"
    if len(report["files"]) > _MOST_FILES:
        yield "", f"and {len(report['files']) - _MOST_FILES} more"
    for item in report["not_scanned"][:_MOST_FILES]:
        yield "left out", f"{item['path']}: {item['reason']}"
    if report["ignored_fields"]:
        yield "ignored", f"fields of config.json: {', '.join(report['ignored_fields'])}"
    if report["outcome"] == "accepted":
        for item in report["missing"]:
            yield "to give", item
    if report["cost"] is not None:
        cost = report["cost"]
        yield (
            "cost",
            (
                f"{cost['preset']}: about {cost['scan_s']:.0f} s for a verdict ({cost['scan_images']} images), "
                f"{cost['purify_s']:.0f} s more for a purification"
            ),
        )
        yield "", cost["basis"]


def _network(network: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    said = {"config": "by its configuration", "request": "as requested", "inferred": "by its keys and shapes"}
    yield "architecture", f"{network['architecture']} ({said[network['architecture_source']]})"
    labels = ", ".join(network["labels"][:_MOST_LABELS]) + (", ..." if len(network["labels"]) > _MOST_LABELS else "")
    if network["num_classes"]:  # targets of a model of images and texts come with its vocabulary
        yield "classes", f"{network['num_classes']}" + (f": {labels}" if labels else "")
    channels, height, width = network["input_shape"]
    yield "input", f"{channels} x {height} x {width}, {network['parameters']} parameters"
    preprocess = network["preprocess"]
    if preprocess["mean"] is not None:
        mean, std = (", ".join(f"{value:.4g}" for value in preprocess[key]) for key in ("mean", "std"))
        yield "normalised", f"mean {mean}; std {std} ({preprocess['source']})"


def _opinion(file: Mapping[str, Any]) -> str:
    opinion = file["second_opinion"]
    if opinion is None:
        return "no pickle"
    found = [*opinion["dangerous"], *opinion["suspicious"]]
    return f"{opinion['scanner']}: {', '.join(found) if found else 'nothing found'}"
