"""Which Hub the settings mean."""

from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants
from pydantic import SecretStr

from core.hub.client import NetworkHub
from core.hub.mirror import MirrorHub
from core.hub.snapshot import Limits
from core.settings import Settings
from tests.support.databases import fresh_database
from worker.hub import hub_desk, hub_limits, hub_source, hub_tokens

KEY = "a secret key of the tests, 32 characters"
REACHABLE: dict[str, Any] = {"hub_endpoint": "https://hub.example.org/", "hub_offline": False}


def test_the_network_a_mirror_or_the_clients_cache(tmp_path: Path) -> None:
    network = hub_source(Settings(**REACHABLE))
    assert isinstance(network, NetworkHub)
    assert network.endpoint == "https://hub.example.org"
    mirror = hub_source(Settings(**REACHABLE, hub_mirror=tmp_path))
    assert isinstance(mirror, MirrorHub)
    assert (mirror.endpoint, mirror._root) == ("", tmp_path)
    cache = hub_source(Settings(hub_offline=True))
    assert isinstance(cache, MirrorHub)
    assert cache._root == Path(constants.HF_HUB_CACHE)


def test_limits() -> None:
    assert hub_limits(Settings(max_upload_bytes=5, hub_max_model_bytes=7)) == Limits(5, 7)


def test_tokens_go_to_their_own_endpoint_and_to_no_mirror(tmp_path: Path) -> None:
    with fresh_database("sqlite", tmp_path) as database:
        here = Settings(**REACHABLE, secret_key=KEY)
        hub_tokens(here, database).set("org_default", "https://hub.example.org", SecretStr("hf_token_1"))
        assert hub_desk(here, database).token("org_default") == "hf_token_1"
        elsewhere = Settings(hub_endpoint="https://other.example.org", hub_offline=False, secret_key=KEY)
        assert hub_desk(elsewhere, database).token("org_default") is None
        keyless = Settings(**REACHABLE, hub_mirror=tmp_path)
        assert hub_desk(keyless, database).token("org_default") is None


@pytest.mark.parametrize("org", ["org_default", "org_nobody"])
def test_no_key_is_needed_where_there_is_no_token(tmp_path: Path, org: str) -> None:
    with fresh_database("sqlite", tmp_path) as database:
        assert hub_desk(Settings(**REACHABLE), database).token(org) is None
