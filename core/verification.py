"""Does the purified model hold? It is scanned again and attacked again, and nothing of the unlearning is reused.

The scan has a seed and restarts of its own, and starts from no known trigger. The attacks use what was inverted on the
*suspect*: applied as it is, and as the material of an attacker who retunes the weights.
"""

from torch import Tensor

from core.config import ScanConfig
from core.context import RunContext
from core.data.reference import ReferenceSet
from core.detection.detector import detect
from core.domain import Verdict
from core.evaluation.inverted import flip_rate, goal, worst_flip_rate
from core.evaluation.reattack import Attacker, reattack_curve
from core.inversion.engine import invert
from core.inversion.result import InversionResult, InvertedTrigger
from core.models.protocol import SuspectModel
from core.report.schema import ReattackPoint, Verification

#: Shares no random number with the scan and the unlearning, whose seeds are the configured one and a few above it.
FRESH_SEED = 1_000_003
#: Largest share of held-out images that the worst convincing trigger may still move.
MOST_FLIPS = 0.2
#: Within this factor of the least energy a trigger is convincing; dearer ones are nearly natural and move any model.
CONVINCING = 1.5
#: Share of the reference set the attacks are measured on.
HELD_OUT = 0.5
#: The attacker's learning rate.
REATTACK_LR = 0.01


def verify(
    suspect: SuspectModel,
    purified: SuspectModel,
    inversion: InversionResult,
    reference: ReferenceSet,
    config: ScanConfig,
    *,
    ctx: RunContext,
) -> tuple[Verification, int]:
    """Scan and attack `purified` afresh.

    Args:
        suspect: the model before.
        purified: the weights as they would be published.
        inversion: what was found on the suspect.
        reference: clean images.
        config: the budget is that of the scan.

    Returns:
        The verification, and how many images it put through the network.

    Raises:
        CanceledError: ctx asked to stop.
    """
    seed = config.seed + FRESH_SEED
    found = invert(purified, reference, config.inversion, seed=seed, ctx=ctx.part(0.0, 0.8))
    detection = detect(purified, found, reference, preset=config.preset)
    attacker_images, held_out = reference.split(HELD_OUT, seed)
    images, labels = held_out.pixels, held_out.labels
    triggers = _convincing(inversion)
    after = worst_flip_rate(purified, triggers, images, labels)
    verification = Verification(
        detection=detection,
        passed=detection.verdict is Verdict.CLEAN and after <= MOST_FLIPS,
        inverted_flip_before=worst_flip_rate(suspect, triggers, images, labels),
        inverted_flip_after=after,
        reattack=_reattack(purified, triggers, attacker_images, held_out, seed, ctx.part(0.8, 1.0)),
    )
    return verification, found.images_processed


def _convincing(inversion: InversionResult) -> tuple[InvertedTrigger, ...]:
    least = min((trigger.energy for trigger in inversion.triggers), default=0.0)
    return tuple(trigger for trigger in inversion.triggers if trigger.energy <= CONVINCING * least)


def _reattack(
    purified: SuspectModel,
    triggers: tuple[InvertedTrigger, ...],
    attacker_images: ReferenceSet,
    held_out: ReferenceSet,
    seed: int,
    ctx: RunContext,
) -> list[ReattackPoint]:
    """Retuning with the trigger that works best; empty if there are too few images for the attacker."""
    attacker = Attacker()
    trigger = max(triggers, key=lambda item: flip_rate(purified, item, held_out.pixels, held_out.labels), default=None)
    if trigger is None or not _feasible(trigger, attacker_images, attacker):
        return []

    def target_of(labels: Tensor) -> Tensor:
        return goal(trigger, labels).wanted

    curve = reattack_curve(
        purified, attacker_images, held_out, trigger.operator.apply, target_of, lr=REATTACK_LR, seed=seed, ctx=ctx
    )
    return [ReattackPoint(steps=steps, flip_rate=rate) for steps, rate in curve.items()]


def _feasible(trigger: InvertedTrigger, images: ReferenceSet, attacker: Attacker) -> bool:
    return len(images) >= attacker.images and int(goal(trigger, images.labels).counted.sum()) >= attacker.poisoned
