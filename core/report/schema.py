"""The versioned JSON report of a scan: the one contract between engine, registry, API, CLI and gate."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from core.domain import ArtifactRole, ModelKind, Preset, PurificationStatus, PurifyMode, Verdict

SCHEMA_VERSION: Literal["1.0"] = "1.0"

Fraction = float  # in [0, 1]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class EngineInfo(_Model):
    version: str
    torch: str
    threads: int
    device: str


class PreprocessInfo(_Model):
    mean: list[float]
    std: list[float]
    size: tuple[int, int] = Field(description="Height, width.")
    source: str = Field(
        description="request, checkpoint metadata, a configuration file, architecture, or reference accuracy."
    )
    crop: float | None = Field(
        default=None, description="Share of the resized image that the model's own centre crop keeps, if it says so."
    )
    filter: str = Field(default="", description="The model's own resampling filter, if it says so.")
    squash: bool = Field(default=False, description="The model's own resizing does not keep proportions.")


class SecondOpinion(_Model):
    """What a scanner by other people says about the pickles of a file."""

    scanner: str
    dangerous: list[str]
    suspicious: list[str]
    error: bool = Field(description="It could not read the file.")


class FileInfo(_Model):
    """A file that passed the gate."""

    path: str
    size_bytes: int
    container: str
    tensors: int
    globals: list[str] = Field(description="What its pickles name; all of it harmless.")
    second_opinion: SecondOpinion | None = Field(description="Null for files without pickles.")


class NotScanned(_Model):
    """A file of the model, or a part of one, that was not looked at."""

    path: str
    reason: str


class VocabularyInfo(_Model):
    """The texts that are the targets of a model of images and texts."""

    source: Literal["request", "class names", "captions", "caption clusters", "image clusters"]
    size: int
    names: list[str] = Field(description="By target; the first 1,000.")
    templates: list[str] = Field(description="Prompts around each name; empty where names come from clustering.")


class ModelInfo(_Model):
    sha256: str
    filename: str
    size_bytes: int
    container: str = Field(description="safetensors, torch-zip or torch-legacy.")
    kind: ModelKind
    architecture: str
    architecture_source: str = Field(description="request, inferred or config.")
    num_classes: int
    input_shape: tuple[int, int, int] = Field(description="Channels, height, width.")
    parameters: int
    preprocess: PreprocessInfo
    layout: str = Field(default="checkpoint", description="checkpoint, transformers, timm or open_clip.")
    labels: list[str] = Field(default_factory=list, description="Class names by index; empty if the files have none.")
    vocabulary: VocabularyInfo | None = Field(default=None, description="Of a model of images and texts.")
    files: list[FileInfo] = Field(default_factory=list, description="The files that the weights were read from.")
    not_scanned: list[NotScanned] = Field(default_factory=list, description="What the verdict says nothing about.")


class ReferenceInfo(_Model):
    sha256: str
    images: int
    images_used: int
    labelled: bool
    classes_present: int
    matched_by: str = Field(
        default="unlabelled",
        description="How labels came: index, name (the model's own), order (alphabetical), caption or unlabelled.",
    )
    label_mapping: str = Field(default="", description="The same in words.")
    captioned: int = Field(default=0, description="Images used with a text of their own.")
    captions_spare: int = Field(default=0, description="Captions that are not used: their image has another before.")
    classes_missing: list[int] = Field(default_factory=list, description="Classes without an image; the first 50.")
    classes_missing_total: int = 0
    rejected: list[str] = Field(default_factory=list, description="Per-file reasons for what was not used; capped.")
    rejected_total: int = 0


class Statistic(_Model):
    """One detection statistic; `suspicious` is on the `direction` side of `threshold`."""

    name: str
    value: float | None
    threshold: float
    direction: Literal["below", "above"]
    suspicious: bool
    description: str = ""


class TargetFinding(_Model):
    """A target class the inverted triggers point to."""

    target: int | None = Field(description="Class index; null for a source-dependent target (all-to-all).")
    label: str | None = None
    operator: str
    energy: float
    flip_rate: Fraction


class ThresholdProvenance(_Model):
    calibration: str = Field(description="Identifier of the committed calibration.")
    group: str = Field(default="", description="Which clean models the suspect is compared with.")
    clean_models: int = Field(description="How many those are.")
    backdoored_models: int = Field(default=0, description="Models with a backdoor that the threshold depends on: none.")
    budget: Fraction = Field(default=0.05, description="Share of clean models that may be called backdoored.")
    false_positives: int = Field(default=0, description="Clean models beyond the threshold, each left out in turn.")
    false_positive_interval: tuple[Fraction, Fraction] = Field(
        default=(0.0, 1.0), description="Exact 95 % interval of the false-positive rate that follows from it."
    )
    note: str


class Detection(_Model):
    verdict: Verdict
    score: float = Field(description="Larger is more suspicious; backdoored from `threshold` on.")
    threshold: float
    p_value: Fraction = Field(
        default=1.0,
        description="Probability that a clean model of the group scores as high: their share, counting the suspect; "
        "beyond the last of them the tail of Student's distribution.",
    )
    provenance: ThresholdProvenance
    statistics: list[Statistic]
    targets: list[TargetFinding]
    coverage: list[str]
    reasons: list[str] = Field(description="Why this verdict, in plain words.")


class Utility(_Model):
    """What a model is good for, on reference images.

    Accuracy (zero-shot where classes are texts); agreement with the suspect when there are no labels; or the share of
    images whose nearest text has the image's own label.
    """

    measure: Literal["accuracy", "zero_shot_accuracy", "agreement_with_suspect", "retrieval_recall"]
    images: int
    before: Fraction
    after: Fraction | None = None


class ReattackPoint(_Model):
    steps: int
    flip_rate: Fraction


class ReattackCurve(_Model):
    """Retuning at one learning rate."""

    learning_rate: float
    points: list[ReattackPoint]


class Resistance(_Model):
    """How one model stands being attacked with an inverted trigger."""

    curves: list[ReattackCurve] = Field(description="Flip rates after retuning the weights.")
    worst: Fraction = Field(description="The highest flip rate of all curves.")
    perturbed: Fraction = Field(description="Flip rate with the best small universal perturbation on the trigger.")


class Certificate(_Model):
    """What it takes to bring the backdoor back with what was inverted on the suspect."""

    target: int | None = Field(description="Class index the trigger used leads to; null if it depends on the source.")
    operator: str
    poisoned: int = Field(description="Triggered images the attacker retunes on.")
    clean: int = Field(description="Further images the attacker retunes on.")
    images: int = Field(description="Held-out images it is measured on.")
    radius: float = Field(description="Largest change of a pixel by the perturbation.")
    purified: Resistance
    control: Resistance | None = Field(description="The same for a clean model of the same kind.")
    control_missing: str = Field(default="", description="Why there is no control.")


class Verification(_Model):
    """The purified weights scanned again, fresh seed and restarts, nothing of the unlearning reused."""

    detection: Detection
    passed: bool
    inverted_flip_before: Fraction = Field(description="Worst inverted trigger's flip rate on the suspect.")
    inverted_flip_after: Fraction
    reattack: list[ReattackPoint] = Field(
        description="Retuning with an inverted trigger: the worst learning rate after each number of steps."
    )
    certificate: Certificate | None = Field(
        default=None, description="Null if there were too few images, or nothing inverted, to attack with."
    )


class ArtifactInfo(_Model):
    role: ArtifactRole
    sha256: str
    size_bytes: int
    filename: str
    media_type: str


class Purification(_Model):
    status: PurificationStatus
    reason_code: str = ""
    reason: str = ""
    utility: Utility | None = None
    retrieval: Utility | None = Field(default=None, description="The same for texts; null for images without any.")
    utility_budget: Fraction | None = None
    rounds: int = 0
    verification: Verification | None = None


class Timing(_Model):
    stage: str
    wall_s: float
    images_processed: int = 0


class Report(_Model):
    schema_version: Literal["1.0"] = SCHEMA_VERSION
    engine: EngineInfo
    config_digest: str
    preset: Preset
    purify: PurifyMode
    seed: int
    model: ModelInfo
    reference_set: ReferenceInfo | None
    utility: Utility | None = Field(description="The suspect's own accuracy on the reference set.")
    detection: Detection
    purification: Purification
    artifacts: list[ArtifactInfo]
    timings: list[Timing]
    method: str = Field(
        default="Untargeted BI-BAU: our reconstruction from the abstract of arXiv 2606.14078, not its authors' code.",
    )
