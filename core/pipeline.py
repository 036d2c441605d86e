"""The order of stages of a scan: validated files and a ScanConfig in, events and a result folder out.

A pure function of its inputs: it knows no database, no queue, no HTTP and no secret, so a notebook, the CLI, a
worker and a test get the same report for the same files, configuration and seed on one machine.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from core import ENGINE_VERSION, devices
from core.config import ScanConfig
from core.context import RunContext
from core.data.reference import ReferenceSet
from core.data.synthetic import synthesise
from core.detection.detector import detect
from core.domain import ArtifactRole, PurificationStatus, PurifyMode, Stage, Verdict
from core.errors import InvalidInputError
from core.evaluation.evidence import draw_triggers
from core.evaluation.utility import utility
from core.inversion.engine import invert
from core.inversion.result import InversionResult
from core.models.export import export_original
from core.models.loading import LoadedSuspect, load_suspect
from core.models.protocol import SuspectModel
from core.models.safety import Container
from core.report.artifacts import describe
from core.report.schema import ArtifactInfo, Detection, EngineInfo, Purification, Report, Timing, Utility
from core.unlearning.purify import purify
from core.verification import verify

#: The usual file name extension of each container, for the artifacts' names.
_SUFFIXES = {Container.SAFETENSORS: ".safetensors", Container.TORCH_ZIP: ".pth", Container.TORCH_LEGACY: ".pth"}
_REFERENCE_REQUIRED = ("reference_required", "Purification needs clean reference images.")


@dataclass(frozen=True, slots=True)
class ScanSubject:
    """Which files a scan is about, for its report."""

    model_sha256: str
    model_filename: str
    reference_sha256: str | None


def run(
    intake_dir: Path,
    result_dir: Path,
    *,
    subject: ScanSubject,
    config: ScanConfig,
    ctx: RunContext,
    threads: int = 0,
) -> Report:
    """Scan the model in `intake_dir` and, if asked to, purify it.

    Args:
        intake_dir: what core.models.intake wrote: validated tensors and decoded reference images.
        result_dir: where the artifacts that the report names are written; created.
        subject: digests and display name for the report.
        threads: CPU threads; 0 takes all cores of this process.

    Raises:
        InvalidInputError: the model or reference set cannot be used, with what to do about it.
        CanceledError: ctx asked to stop.
    """
    result_dir.mkdir(parents=True, exist_ok=True)
    threads = devices.set_threads(threads)
    scan = _Scan(config, replace(ctx, threads=threads), intake_dir, result_dir, devices.choose_device())
    with devices.reproducible():
        with scan.stage(Stage.LOADING):
            suspect = scan.load()
        devices.suit_threads(suspect.model.module, threads)
        with scan.stage(Stage.INVERTING):
            inversion = scan.invert(suspect)
        with scan.stage(Stage.DETECTING):
            detection = scan.detect(suspect, inversion)
        purification = scan.purify(suspect, inversion, detection)
    return Report(
        engine=EngineInfo(
            version=ENGINE_VERSION, torch=torch.__version__, threads=threads, device=devices.describe(scan.device)
        ),
        config_digest=config.digest,
        preset=config.preset,
        purify=config.purify,
        seed=config.seed,
        model=suspect.loaded.describe(subject.model_sha256, subject.model_filename),
        reference_set=suspect.loaded.describe_reference(subject.reference_sha256),
        utility=suspect.utility,
        detection=detection,
        purification=purification,
        artifacts=scan.artifacts,
        timings=scan.timings,
    )


@dataclass(frozen=True, slots=True)
class _Suspect:
    """The model under scan with the images it is scanned with; `synthetic`: none were given."""

    loaded: LoadedSuspect
    reference: ReferenceSet
    synthetic: bool
    utility: Utility | None

    @property
    def model(self) -> SuspectModel:
        return self.loaded.model


@dataclass(slots=True)
class _Scan:
    """One run: its configuration, and what it collects on the way."""

    config: ScanConfig
    ctx: RunContext
    intake_dir: Path
    result_dir: Path
    device: torch.device
    artifacts: list[ArtifactInfo] = field(default_factory=list)
    timings: list[Timing] = field(default_factory=list)

    @contextmanager
    def stage(self, stage: Stage) -> Iterator[None]:
        """Announces a stage and records how long it took."""
        self.ctx.enter(stage)
        start = time.monotonic()
        self.timings.append(Timing(stage=stage.value, wall_s=0.0))
        yield
        devices.synchronize(self.device)
        self.ctx.progress(1.0)
        self.timings[-1].wall_s = round(time.monotonic() - start, 3)

    def load(self) -> _Suspect:
        loaded = load_suspect(self.intake_dir, self.config)
        model = loaded.model.to(self.device)
        given = loaded.reference()
        if given is None:
            return _Suspect(loaded, loaded.named(synthesise(model, seed=self.config.seed)), True, None)
        reference = given.to(self.device)
        return _Suspect(loaded, reference, False, utility(model, reference))

    def invert(self, suspect: _Suspect) -> InversionResult:
        found = invert(suspect.model, suspect.reference, self.config.inversion, seed=self.config.seed, ctx=self.ctx)
        self.timings[-1].images_processed = found.images_processed
        return found

    def detect(self, suspect: _Suspect, inversion: InversionResult) -> Detection:
        detection = detect(
            suspect.model, inversion, suspect.reference, preset=self.config.preset, synthetic=suspect.synthetic
        )
        if (texts := suspect.loaded.texts) is not None:
            detection.coverage += texts.coverage
        if detection.verdict is Verdict.BACKDOORED:
            path = self.result_dir / "inverted_triggers.png"
            draw_triggers(inversion, suspect.reference, path)
            self.artifacts.append(describe(path, ArtifactRole.TRIGGER_IMAGE))
        return detection

    def purify(self, suspect: _Suspect, inversion: InversionResult, detection: Detection) -> Purification:
        """Unlearn, verify and publish, as far as that is wanted and possible."""
        if self.config.purify is PurifyMode.NEVER:
            return Purification(status=PurificationStatus.NOT_REQUESTED)
        if self.config.purify is PurifyMode.AUTO and detection.verdict is not Verdict.BACKDOORED:
            return Purification(status=PurificationStatus.NOT_NEEDED)
        if suspect.synthetic:
            code, reason = _REFERENCE_REQUIRED
            return Purification(status=PurificationStatus.REFUSED, reason_code=code, reason=reason)
        try:
            with self.stage(Stage.UNLEARNING):
                purified = purify(
                    suspect.model,
                    inversion,
                    suspect.reference,
                    self.config.unlearning,
                    self.config.inversion,
                    seed=self.config.seed,
                    ctx=self.ctx,
                    is_settled=lambda model, found: self._is_settled(model, found, suspect.reference),
                )
                self.timings[-1].images_processed = purified.images_processed
        except InvalidInputError as error:  # the verdict stands, whatever the reference set is too small for
            return Purification(
                status=PurificationStatus.REFUSED, reason_code=error.code, reason=f"{error.detail} {error.hint}"
            )
        result = Purification(
            status=PurificationStatus.PUBLISHED,
            utility=purified.utility,
            retrieval=purified.retrieval,
            utility_budget=self.config.unlearning.utility_budget,
            rounds=purified.rounds,
        )
        if not purified.accepted:
            return _withheld(result, "utility_budget_exceeded", purified.reason)
        with self.stage(Stage.VERIFYING):
            # What is verified is what a reader of the published file gets, rounded to the upload's precision.
            published = suspect.loaded.as_published(purified.model)
            verification, images = verify(
                suspect.model, published, inversion, suspect.reference, self.config, ctx=self.ctx
            )
            self.timings[-1].images_processed = images
        result.verification = verification
        if verification.detection.verdict is Verdict.BACKDOORED:
            return _withheld(result, "verification_failed", "The purified weights still look backdoored.")
        self._export(suspect.loaded, purified.model)
        return result

    def _is_settled(self, model: SuspectModel, found: InversionResult, reference: ReferenceSet) -> bool:
        return detect(model, found, reference, preset=self.config.preset).verdict is Verdict.CLEAN

    def _export(self, loaded: LoadedSuspect, model: SuspectModel) -> None:
        state = loaded.export_state(model)
        metadata = {"assay": f"purified by {ENGINE_VERSION}"}
        package = loaded.package
        if package.alone:
            original = self.result_dir / f"purified{_SUFFIXES[Container(package.first.container)]}"
            export_original(package.first, state, original)
            self.artifacts.append(describe(original, ArtifactRole.PURIFIED_ORIGINAL))
        else:
            repository = self.result_dir / "purified-repository.zip"
            manifest = self.result_dir / "purified-manifest.json"
            manifest.write_bytes(package.export_repository(state, self.intake_dir, repository).to_bytes())
            self.artifacts.append(describe(repository, ArtifactRole.PURIFIED_REPOSITORY))
            self.artifacts.append(describe(manifest, ArtifactRole.PURIFIED_MANIFEST))
        plain = self.result_dir / "purified.plain.safetensors"
        package.export_plain(state, plain, metadata)
        self.artifacts.append(describe(plain, ArtifactRole.PURIFIED_SAFETENSORS))


def _withheld(result: Purification, code: str, reason: str) -> Purification:
    return result.model_copy(update={"status": PurificationStatus.WITHHELD, "reason_code": code, "reason": reason})
