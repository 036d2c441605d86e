"""The gate's questions to the registry: gather evidence, decide, write the answer down."""

from core.jobs._parts import ServiceParts
from core.policy.evidence import purification_passed, read_report, reference_fits
from core.policy.gate import GateAnswer, PurifiedEvidence, ScanEvidence, decide
from core.registry.repositories.gate import GateRepository
from core.storage.protocol import check_digest


class Judging(ServiceParts):
    """The gate's side of the job service."""

    def gate(self, org_id: str, sha256: str) -> GateAnswer:
        """Whether the organisation may use the file with this digest. Every answer is recorded.

        Callers fail closed: any exception means no.

        Raises:
            InvalidInputError: `invalid_digest`.
            UnavailableError: the database is away.
        """
        check_digest(sha256)
        with self._db.begin() as session:
            gate = GateRepository(session)
            evidence = []
            for job, result, document in gate.scans(org_id, sha256):
                report = read_report(document) if document is not None else None
                evidence.append(
                    ScanEvidence(
                        scan_id=job.id,
                        state=job.state,
                        verdict=result.verdict if result else None,
                        preset=job.preset,
                        engine_version=job.engine_version,
                        has_reference=job.reference_sha256 is not None,
                        reference_fits=report is not None and reference_fits(report),
                        same_digest=job.model_sha256 == sha256,
                    )
                )
            purified = []
            for job, document in gate.purifications(org_id, sha256):
                report = read_report(document)
                purified.append(
                    PurifiedEvidence(
                        scan_id=job.id,
                        passed=report is not None and purification_passed(report),
                        preset=job.preset,
                        engine_version=job.engine_version,
                        reference_fits=report is not None and reference_fits(report),
                    )
                )
            answer = decide(evidence, purified)
            gate.append(
                org_id,
                sha256,
                answer.decision,
                allow=answer.allow,
                reasons=[reason.code for reason in answer.reasons],
                engine_versions=list(answer.engine_versions),
                now=self._db.now(session),
            )
            return answer
