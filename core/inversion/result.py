"""What blind inversion found."""

from dataclasses import dataclass, field

from torch import Tensor

from core.triggers.protocol import TriggerOperator


@dataclass(frozen=True, slots=True)
class InvertedTrigger:
    """One fitted component of the mixture.

    Attributes:
        operator: the fitted operator, parameters frozen.
        target: the target hypothesis; None for a component with a source-dependent target (all-to-all).
        transition: (K, K) probabilities p(target | source), zero diagonal: for one target a one-hot column.
        energy: prior energy at the steered flip rate (smaller is more suspicious).
        flip_rate: fraction of held-out images (not of the target class) that the trigger sends to its target.
        weight: evidence weight in the mixture, all weights of a result sum to one.
    """

    operator: TriggerOperator
    target: int | None
    transition: Tensor
    energy: float
    flip_rate: float
    weight: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was measured of one refined component on held-out images, whether or not it survived.

    Attributes:
        family: the operator it was searched with.
        target: the target hypothesis; None for a source-dependent target.
        energy: at the steered flip rate.
        flip_rate: share of the images that went to the target.
        information: mutual information of source and answer where answers changed, times how often they did, nats;
            measured before refinement.
        window_flip: flip rate through the best window before refinement; zero for operators without windows.
        restart: which of the independent restarts it came from.
    """

    family: str
    target: int | None
    energy: float
    flip_rate: float
    information: float
    window_flip: float
    restart: int


@dataclass(frozen=True, slots=True)
class InversionResult:
    """The mixture after pruning, and the evidence for every hypothesis looked at.

    Attributes:
        triggers: surviving components, most suspicious first.
        energy_by_target: operator name -> (K,) MAP energy per target hypothesis (inf where not looked at).
        bound_history: the objective after every M-step of the best component on a fixed batch: it does not fall.
        images_processed: images through a forward and backward pass, the unit of cost.
        coverage: operator families and hypotheses looked at, in words for the report.
        evidence: every refined component, least energy first.
        images_looked: images through a forward pass only, to measure what was found.
    """

    triggers: tuple[InvertedTrigger, ...]
    energy_by_target: dict[str, Tensor]
    bound_history: tuple[float, ...]
    images_processed: int
    coverage: tuple[str, ...] = field(default=())
    evidence: tuple[Evidence, ...] = field(default=())
    images_looked: int = 0
