"""`assay`: the command line. Each command imports what it needs when it runs, so that `--help` is instant.

Exit codes of a scan: 0 clean, 1 backdoored, 2 inconclusive, 3 failed (and whatever was not foreseen), 4 unsupported or
unsafe, 5 canceled, 64 wrong usage. Of `inspect`: 0 it can be scanned, 3, 4, 5 and 64 as of a scan.
"""

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from api.cli_admin import AsJson, db_app, hub_token_app, keys_app
from api.commands.common import ExitCode, err, exit_code_of, explain
from core.domain import ArtifactRole, ModelKind, Preset, PurifyMode
from core.errors import AssayError, InvalidInputError

if TYPE_CHECKING:
    from api.commands.target import ReferenceTarget, Target
    from api.schemas import ScanOptions

app = typer.Typer(
    name="assay",
    help="Scan image models for trained backdoors, and get purified weights back.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
bench_app = typer.Typer(
    help="Benchmarks: trains models with known backdoors and compares the method with published ones.",
    no_args_is_help=True,
)
app.add_typer(keys_app, name="keys")
app.add_typer(hub_token_app, name="hub-token")
app.add_typer(db_app, name="db")
app.add_typer(bench_app, name="bench")

Server = Annotated[str | None, typer.Option(help="Address of a server; default: ASSAY_SERVER.", show_default=False)]
Suspect = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="A checkpoint, the folder of a model, or hf-hub:ORG/NAME@REVISION."),
]


class Suite(StrEnum):
    """Which models a benchmark is about."""

    SMOKE = "smoke"
    FULL = "full"
    CLIP = "clip"


class Kind(StrEnum):
    """What a model is taken for."""

    AUTO = "auto"
    CLASSIFIER = ModelKind.CLASSIFIER
    CLIP = ModelKind.CLIP


class Reference(StrEnum):
    """How many clean images a defender has in a benchmark."""

    HUNDRED = "100"
    FOUR_HUNDRED = "400"
    FIVE_PERCENT = "5pc"


BenchSuite = Annotated[
    Suite, typer.Option(help="smoke: minutes; full: hours to days, resumable; clip: models of images and texts.")
]
BenchData = Annotated[
    str | None, typer.Option(help="Only models on this data set, such as cifar10.", show_default=False)
]
BenchSeeds = Annotated[int, typer.Option(min=1, max=99, help="Models of each kind.")]
BenchFirstSeed = Annotated[int, typer.Option(min=1, help="Below 100: models for judging; above: for choosing.")]
BenchShard = Annotated[str, typer.Option(help="i/n: the i-th of n shares of the models.")]
BenchOut = Annotated[Path, typer.Option("--out", file_okay=False, help="Where rows, tables and plots go.")]
BenchZoo = Annotated[Path, typer.Option("--zoo", file_okay=False, help="Where trained models are kept.")]
BenchMethods = Annotated[str, typer.Option(help="Names with commas between; all without it.", show_default=False)]
BenchReference = Annotated[Reference, typer.Option(help="Clean images the defender has; 5pc: 5 % of the training set.")]
BenchPreset = Annotated[Preset, typer.Option(help="Computation of our method.")]
BenchWorkers = Annotated[int, typer.Option(min=0, help="Processes, one thread each; 0: one per core.")]

_BENCH_OUT, _BENCH_ZOO = Path("build/bench"), Path("build/zoo")


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Interface; others than loopback need an API key to exist.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 8000,
    workers: Annotated[int, typer.Option(min=1, max=64, help="API processes; more than one needs a broker.")] = 1,
) -> None:
    """Start the API (with the worker inside, unless ASSAY_BROKER_URL is set)."""
    from api.commands import serve as command

    raise typer.Exit(command.run(host, port, workers))


@app.command()
def worker() -> None:
    """Start a worker that takes scans from the broker."""
    from api.commands.common import load_settings
    from worker.main import run_worker

    raise typer.Exit(run_worker(load_settings()))


@app.command()
def sweep() -> None:
    """Start the sweeper: expired leases, lost messages, left-overs."""
    from api.commands.common import load_settings
    from worker.main import run_sweeper

    raise typer.Exit(run_sweeper(load_settings()))


def _reference(text: str | None) -> "ReferenceTarget | None":
    """Raises typer.BadParameter."""
    from api.commands.target import parse_reference

    try:
        return None if text is None else parse_reference(text)
    except InvalidInputError as error:
        raise typer.BadParameter(error.detail, param_hint="--reference") from None


def _vocabulary(text: str) -> str:
    """The names, or what is in the file that is called so. Raises typer.BadParameter."""
    path = Path(text)
    try:
        return path.read_text(encoding="utf-8-sig") if text and path.is_file() else text
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{text[:200]} cannot be read: {error}", param_hint="--vocabulary") from None


def _asked(suspect: str, fields: dict[str, str]) -> tuple["ScanOptions", "Target"]:
    """Raises typer.BadParameter: what is wrong with an argument is wrong usage."""
    from pydantic import ValidationError

    from api.commands.target import parse_target
    from api.problems import describe, field_errors
    from api.schemas import options_from_fields

    try:
        return options_from_fields(fields), parse_target(suspect)
    except ValidationError as error:
        raise typer.BadParameter(describe(field_errors(list(error.errors())))) from None
    except InvalidInputError as error:
        raise typer.BadParameter(error.detail) from None


@app.command()
def scan(
    suspect: Suspect,
    reference: Annotated[
        str | None,
        typer.Option(help="Clean images: a folder, a zip, tar or Parquet file, or the id of a server's set."),
    ] = None,
    target: Annotated[
        Path | None,
        typer.Option("--out", help="Where purified weights go: .safetensors, the upload's format, or a new folder."),
    ] = None,
    server: Server = None,
    local: Annotated[bool, typer.Option("--local", help="Scan here even if ASSAY_SERVER is set.")] = False,
    as_json: AsJson = False,
    preset: Annotated[Preset, typer.Option(help="How much computation to spend.")] = Preset.STANDARD,
    purify: Annotated[PurifyMode, typer.Option(help="auto: only what is called backdoored.")] = PurifyMode.AUTO,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    architecture: Annotated[str, typer.Option(help="auto, or a name such as preactresnet18.")] = "auto",
    preprocess: Annotated[str, typer.Option(help="auto, or JSON with mean, std and size.")] = "auto",
    kind: Annotated[Kind, typer.Option(help="Kind of model; auto: what its files say.")] = Kind.AUTO,
    vocabulary: Annotated[
        str, typer.Option(help="Names of a CLIP's targets: a,b,c, or a file with one a line.", show_default=False)
    ] = "",
    template: Annotated[
        list[str] | None,
        typer.Option(help="Prompt around each name, with one {}; may be repeated.", show_default=False),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Scan again even if the server has a result.")] = False,
) -> None:
    """Scan a model, here or on a server. The exit code is the verdict."""
    from api.commands import scan as command
    from api.commands.common import load_settings

    if target is not None and not target.absolute().parent.is_dir():
        raise typer.BadParameter(f"there is no folder {target.parent}", param_hint="--out")
    fields = {
        "kind": kind.value,
        "architecture": architecture,
        "preprocess": preprocess,
        "purify": purify.value,
        "preset": preset.value,
        "vocabulary": _vocabulary(vocabulary),
        "templates": "\n".join(template or ()),
        "seed": str(seed),
        "force": "true" if force else "false",
    }
    options, model = _asked(suspect, fields)
    address = None if local else server or load_settings().server
    raise typer.Exit(command.run(command.ScanRequest(model, _reference(reference), options, target, address, as_json)))


@app.command()
def inspect(
    suspect: Suspect,
    server: Server = None,
    local: Annotated[bool, typer.Option("--local", help="Look here even if ASSAY_SERVER is set.")] = False,
    as_json: AsJson = False,
    preset: Annotated[Preset, typer.Option(help="Whose cost is estimated.")] = Preset.STANDARD,
    architecture: Annotated[str, typer.Option(help="auto, or a name such as preactresnet18.")] = "auto",
    preprocess: Annotated[str, typer.Option(help="auto, or JSON with mean, std and size.")] = "auto",
) -> None:
    """Say what a model is, whether it can be scanned and what that would cost, without scanning it."""
    from api.commands import inspect as command
    from api.commands.common import load_settings

    options, model = _asked(suspect, {"architecture": architecture, "preprocess": preprocess, "preset": preset.value})
    address = None if local else server or load_settings().server
    raise typer.Exit(command.run(command.InspectRequest(model, options, address, as_json)))


@app.command()
def status(
    scan_id: Annotated[str | None, typer.Argument(help="Default: the newest scans.", show_default=False)] = None,
    server: Server = None,
    as_json: AsJson = False,
) -> None:
    """How far a scan is, or the newest scans of a server."""
    from api.commands import query

    raise typer.Exit(query.status(scan_id, server, as_json=as_json))


@app.command()
def get(
    what: Annotated[str, typer.Argument(metavar="SCAN|DIGEST", help="A scan's id, or the SHA-256 of a file.")],
    target: Annotated[
        Path | None, typer.Option("--out", dir_okay=False, help="Where the file goes; without it: the report.")
    ] = None,
    role: Annotated[ArtifactRole, typer.Option(help="Which file of the scan.")] = ArtifactRole.PURIFIED_ORIGINAL,
    server: Server = None,
) -> None:
    """The report of a scan, or a file of it."""
    from api.commands import query

    raise typer.Exit(query.get(what, target, role, server))


@app.command()
def gate(
    what: Annotated[str, typer.Argument(metavar="FILE|FOLDER|DIGEST", help="A model's file or folder, or a SHA-256.")],
    server: Server = None,
    as_json: AsJson = False,
) -> None:
    """May this exact file be used? Exit codes: 0 allow, 1 block, 2 unknown or pending, 3 error (which means no)."""
    from api.commands import query

    raise typer.Exit(query.gate(what, server, as_json=as_json))


@app.command()
def demo(
    clip: Annotated[bool, typer.Option("--clip", help="The CLIPs of captioned scenes.")] = False,
    folder: Annotated[
        Path | None, typer.Option("--out", file_okay=False, help="Where the results go; default: build/demo[-clip].")
    ] = None,
) -> None:
    """Scan the examples over HTTP, purify, and measure what is left of their backdoors."""
    from api.commands.demo import run_demo
    from api.commands.examples import ClassifierExamples, ClipExamples

    examples = ClipExamples() if clip else ClassifierExamples()
    raise typer.Exit(run_demo(examples, folder or Path("build/demo-clip" if clip else "build/demo")))


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """What this host has and lacks."""
    from api.commands import doctor as command

    raise typer.Exit(command.run(as_json=as_json))


@bench_app.command("purify")
def bench_purify(
    suite: BenchSuite = Suite.SMOKE,
    data: BenchData = None,
    seeds: BenchSeeds = 3,
    target: BenchOut = _BENCH_OUT,
    zoo: BenchZoo = _BENCH_ZOO,
    methods: BenchMethods = "",
    reference: BenchReference = Reference.FOUR_HUNDRED,
    preset: BenchPreset = Preset.STANDARD,
    first_seed: BenchFirstSeed = 1,
    shard: BenchShard = "1/1",
    workers: BenchWorkers = 0,
) -> None:
    """Purify backdoored models with every method; run it again to go on."""
    from api.commands import bench

    models = bench.Models(suite.value, data, range(first_seed, first_seed + seeds), bench.parse_shard(shard))
    raise typer.Exit(
        bench.purify(models, bench.Terms(reference.value, preset, methods), bench.Folders(target, zoo), workers)
    )


@bench_app.command("detect")
def bench_detect(
    suite: BenchSuite = Suite.SMOKE,
    data: BenchData = None,
    seeds: BenchSeeds = 3,
    target: BenchOut = _BENCH_OUT,
    zoo: BenchZoo = _BENCH_ZOO,
    methods: BenchMethods = "",
    reference: BenchReference = Reference.FOUR_HUNDRED,
    preset: BenchPreset = Preset.STANDARD,
    first_seed: BenchFirstSeed = 1,
    shard: BenchShard = "1/1",
    workers: BenchWorkers = 0,
) -> None:
    """Ask every detector about clean and backdoored models; run it again to go on."""
    from api.commands import bench

    models = bench.Models(suite.value, data, range(first_seed, first_seed + seeds), bench.parse_shard(shard))
    raise typer.Exit(
        bench.detect(models, bench.Terms(reference.value, preset, methods), bench.Folders(target, zoo), workers)
    )


@bench_app.command("cost")
def bench_cost(
    suite: BenchSuite = Suite.FULL,
    data: BenchData = None,
    seeds: BenchSeeds = 1,
    target: BenchOut = _BENCH_OUT,
    zoo: BenchZoo = _BENCH_ZOO,
    first_seed: BenchFirstSeed = 1,
    threads: Annotated[int, typer.Option(min=0, help="0: all cores.")] = 0,
) -> None:
    """Images and seconds of a scan, with a profile; nothing else should run meanwhile."""
    from api.commands import bench

    models = bench.Models(suite.value, data, range(first_seed, first_seed + seeds), (1, 1))
    raise typer.Exit(bench.cost(models, bench.Folders(target, zoo), threads))


@bench_app.command("zoo")
def bench_zoo(
    suite: BenchSuite = Suite.FULL,
    data: BenchData = None,
    seeds: BenchSeeds = 3,
    target: BenchOut = _BENCH_OUT,
    zoo: BenchZoo = _BENCH_ZOO,
    first_seed: BenchFirstSeed = 1,
    clean: Annotated[bool, typer.Option("--clean", help="Only the clean models, as for a calibration.")] = False,
    shard: BenchShard = "1/1",
    workers: BenchWorkers = 0,
) -> None:
    """Train the models of a suite ahead of time; run it again to go on."""
    from api.commands import bench

    models = bench.Models(suite.value, data, range(first_seed, first_seed + seeds), bench.parse_shard(shard))
    raise typer.Exit(bench.train(models, bench.Folders(target, zoo), workers, clean=clean))


def main(arguments: list[str] | None = None) -> None:
    """Entry point; never returns."""
    sys.exit(run(arguments))


def run(arguments: list[str] | None) -> int:
    """Run a command; returns the exit code, whatever happens."""
    try:
        return int(app(arguments, standalone_mode=False) or 0)
    except typer.TyperException as error:
        if error.exit_code == 2:  # wrong usage, by the convention of the library; 2 is a verdict of ours
            if message := error.format_message():
                err().print(message, style="red", markup=False)
                err().print("Try: assay --help", markup=False)
            return ExitCode.USAGE
        err().print(error.format_message(), style="red", markup=False)
        return ExitCode.FAILED
    except (KeyboardInterrupt, typer.Abort):
        return ExitCode.CANCELED
    except AssayError as error:
        explain(error)
        return exit_code_of(error)
    except Exception:
        err().print_exception(show_locals=False)
        return ExitCode.FAILED


if __name__ == "__main__":
    main()
