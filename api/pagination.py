"""Lists page by page, and where the next page is."""

from typing import Annotated
from urllib.parse import urlencode

from fastapi import Query, Request, Response

Limit = Annotated[int, Query(ge=1, le=200)]


def link_next(request: Request, response: Response, cursor: str | None) -> None:
    """Add a Link header (RFC 8288) that points to the page after `cursor`; nothing after the last page."""
    if cursor is not None:
        query = {key: value for key, value in request.query_params.items() if key != "cursor"}
        response.headers["Link"] = f'<{request.url.path}?{urlencode({**query, "cursor": cursor})}>; rel="next"'
