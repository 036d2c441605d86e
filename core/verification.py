"""Does the purified model hold? It is scanned again and attacked again, and nothing of the unlearning is reused.

The scan has a seed and restarts of its own, and starts from no known trigger. The attacks use what was inverted on the
*suspect*: applied as it is, and as the material of an attacker who retunes the weights.
"""

from core.config import ScanConfig
from core.context import RunContext
from core.data.reference import ReferenceSet
from core.detection.detector import detect
from core.domain import Verdict
from core.evaluation.certificate import certify
from core.evaluation.inverted import worst_flip_rate
from core.inversion.engine import invert
from core.inversion.result import InversionResult, InvertedTrigger
from core.models.protocol import SuspectModel
from core.report.schema import Certificate, ReattackPoint, Verification

#: Shares no random number with the scan and the unlearning, whose seeds are the configured one and a few above it.
FRESH_SEED = 1_000_003
#: Largest share of held-out images that the worst convincing trigger may still move.
MOST_FLIPS = 0.2
#: Within this factor of the least energy a trigger is convincing; dearer ones are nearly natural and move any model.
CONVINCING = 1.5
#: Share of the reference set the attacks are measured on.
HELD_OUT = 0.5


def verify(
    suspect: SuspectModel,
    purified: SuspectModel,
    inversion: InversionResult,
    reference: ReferenceSet,
    config: ScanConfig,
    *,
    ctx: RunContext,
    control: SuspectModel | None = None,
) -> tuple[Verification, int]:
    """Scan and attack `purified` afresh.

    Args:
        suspect: the model before.
        purified: the weights as they would be published.
        inversion: what was found on the suspect.
        reference: clean images.
        config: the budget is that of the scan.
        ctx: progress, and a point to stop.
        control: a clean model of the same kind for the certificate, where one is known.

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
    certificate = certify(
        purified,
        triggers,
        attacker_images,
        held_out,
        preset=config.preset,
        seed=seed,
        ctx=ctx.part(0.8, 1.0),
        control=control,
    )
    after = worst_flip_rate(purified, triggers, images, labels)
    verification = Verification(
        detection=detection,
        passed=detection.verdict is Verdict.CLEAN and after <= MOST_FLIPS,
        inverted_flip_before=worst_flip_rate(suspect, triggers, images, labels),
        inverted_flip_after=after,
        reattack=_envelope(certificate),
        certificate=certificate,
    )
    return verification, found.images_processed


def _convincing(inversion: InversionResult) -> tuple[InvertedTrigger, ...]:
    least = min((trigger.energy for trigger in inversion.triggers), default=0.0)
    return tuple(trigger for trigger in inversion.triggers if trigger.energy <= CONVINCING * least)


def _envelope(certificate: Certificate | None) -> list[ReattackPoint]:
    """The worst learning rate after each number of steps."""
    if certificate is None:
        return []
    curves = [curve.points for curve in certificate.purified.curves]
    return [max(points, key=lambda point: point.flip_rate) for points in zip(*curves, strict=True)]
