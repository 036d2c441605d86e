"""Addresses of things, in one place; relative, so that they hold behind any proxy."""


def scan(scan_id: str) -> str:
    return f"/v1/scans/{scan_id}"


def cancel(scan_id: str) -> str:
    return f"/v1/scans/{scan_id}/cancel"


def report(scan_id: str) -> str:
    return f"/v1/scans/{scan_id}/report"


def artifact(sha256: str) -> str:
    return f"/v1/artifacts/{sha256}"


def blob(sha256: str) -> str:
    return f"/v1/blobs/{sha256}"


def upload(upload_id: str) -> str:
    return f"/v1/uploads/{upload_id}"


def reference_set(set_id: str) -> str:
    return f"/v1/reference-sets/{set_id}"


def model(model_id: str) -> str:
    return f"/v1/models/{model_id}"


def gate(sha256: str) -> str:
    return f"/v1/gate?sha256={sha256}"
