"""An organisation's way to the Hub, put together from the settings: which Hub, whose token, how much."""

import functools
from collections.abc import Callable
from pathlib import Path

from pydantic import SecretStr

from core.hub.mirror import MirrorHub
from core.hub.snapshot import Limits
from core.hub.source import HubSource
from core.registry.hub_tokens import HubTokens
from core.registry.secrets import read_secret_key
from core.registry.session import Database
from core.settings import Settings


class HubDesk:
    """What is needed to use a Hub for an organisation.

    Args:
        make_source: called once, at the first use: the network's client takes a while to import.
        token_of: the token of an organisation for an endpoint.
        limits: how large models may be.
    """

    def __init__(
        self,
        make_source: Callable[[], HubSource],
        token_of: Callable[[str, str], SecretStr | None],
        limits: Limits,
    ) -> None:
        self._make_source = functools.cache(make_source)
        self._token_of = token_of
        self.limits = limits

    @property
    def source(self) -> HubSource:
        """The Hub."""
        return self._make_source()

    def token(self, org_id: str) -> str | None:
        """What to send for the organisation. Raises SecretKeyError."""
        endpoint = self.source.endpoint
        token = self._token_of(org_id, endpoint) if endpoint else None
        return None if token is None else token.get_secret_value()


def hub_source(settings: Settings) -> HubSource:
    """The Hub of the settings: a mirror where one is set or the network is not wanted, else the endpoint."""
    if settings.hub_mirror is not None:
        return MirrorHub(settings.hub_mirror.expanduser())
    if settings.hub_offline:
        from huggingface_hub import constants

        return MirrorHub(Path(constants.HF_HUB_CACHE))
    from core.hub.client import NetworkHub

    return NetworkHub(settings.hub_endpoint, settings.redirect_hosts)


def hub_limits(settings: Settings) -> Limits:
    """What of the settings bounds a model from the Hub."""
    return Limits(settings.max_upload_bytes, settings.hub_max_model_bytes)


def hub_tokens(settings: Settings, database: Database) -> HubTokens:
    """The tokens in the database, sealed with the key of the settings."""
    return HubTokens(database, lambda: read_secret_key(settings.secret_key, settings.secret_key_file))


def hub_desk(settings: Settings, database: Database) -> HubDesk:
    """The desk of a service."""
    return HubDesk(lambda: hub_source(settings), hub_tokens(settings, database).get, hub_limits(settings))
