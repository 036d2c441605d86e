"""The routes of the API, one file per resource."""

from typing import Any

from api.problems import MEDIA_TYPE, Problem

_MEANINGS = {
    400: "The request cannot be read.",
    401: "A key is needed, or the one given is not valid.",
    403: "The key does not have the needed scope.",
    404: "There is no such thing, or not for this organisation.",
    408: "Nothing arrived for too long.",
    409: "The thing is in a state that does not allow this.",
    412: "A version of the protocol that is not spoken here.",
    413: "Larger than the limit.",
    415: "A media type this address does not read.",
    416: "The range lies outside of the file.",
    422: "The request is not valid, or asks for something unsupported.",
    423: "Somebody else is working on it at this moment.",
    429: "More than the organisation may have; see Retry-After.",
    460: "The bytes do not have the checksum that came with them.",
    500: "Something went wrong on the server, for instance damaged storage.",
    502: "What the Hub answers cannot be used.",
    503: "Something the service depends on is away; see Retry-After.",
    507: "No room left on the disk.",
}


def problems_for(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI response entries: each of these statuses carries a problem document."""
    schema = {"$ref": f"#/components/schemas/{Problem.__name__}"}
    return {
        status: {"description": _MEANINGS[status], "content": {MEDIA_TYPE: {"schema": schema}}} for status in statuses
    }
