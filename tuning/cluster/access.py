"""Who may use a Ray: its token, and the addresses on which it listens."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from tuning.experiment.problems import Misuse, Problem

MODE, TOKEN, TOKEN_FILE = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
"""Ray's variables: whether a token is asked for, the token, and the file that holds it."""

GIVE_ONE = (
    "write what `ray get-auth-token` prints on the head node into ~/.ray/auth_token here, or set RAY_AUTH_TOKEN to it"
)
ANSWERS_WITHIN_S = 5
"""Seconds in which a cluster's head node says whether it takes us."""


@contextmanager
def private() -> Iterator[None]:
    """A Ray that is started in this block listens on 127.0.0.1 alone, and takes nobody without a token of its own.

    Ray would choose the address by which others reach this machine, and keep its token in a file that they may read.
    What the user says of tokens in the environment holds.
    """
    from ray._private import ray_constants

    own = {MODE: "token"} if MODE not in os.environ else {}
    if not {TOKEN, TOKEN_FILE} & set(os.environ):
        own[TOKEN] = secrets.token_hex(32)
    reaches_others = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    os.environ.update(own)
    _forget()
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = reaches_others
        for name in own:
            os.environ.pop(name, None)
        _forget()


def _forget() -> None:
    """Ray reads mode and token once; here it reads them again."""
    import_module("ray._raylet").Config.initialize("")
    _tokens().reset_cache()


def _tokens() -> Any:
    """Ray's own reader of tokens."""
    return import_module("ray._raylet").AuthenticationTokenLoader.instance()


def check_access(gcs_address: str, place: str) -> None:
    """Refuses a cluster that would not take us, which Ray would find out in half a minute and not say.

    A token that is there is used where the cluster asks for one, whether or not RAY_AUTH_MODE says so.

    Args:
        gcs_address: host:port of the head node.
        place: what the user said.

    Raises:
        Misuse: with the reason.
    """
    mode = os.environ.get(MODE, "").lower()
    if _takes(gcs_address, {}, place):
        if mode == "token" and not _token_headers():
            raise Misuse(Problem(place, f"{MODE} is token, but there is none", remedy=f"{GIVE_ONE}, or unset {MODE}"))
        return
    headers = _token_headers()
    if not headers:
        raise Misuse(Problem(place, "the cluster asks for a token, and there is none here", remedy=GIVE_ONE))
    if not _takes(gcs_address, headers, place):
        raise Misuse(Problem(place, f"the cluster does not take the token of {_token_place()}", remedy=GIVE_ONE))
    if mode not in {"", "token"}:
        raise Misuse(Problem(place, "the cluster asks for a token", f"{MODE}={mode}", f"unset {MODE}"))
    os.environ[MODE] = "token"
    _forget()


def _token_headers() -> dict[str, str]:
    """What says the token that Ray finds here; empty where it finds none.

    Ray must not keep what was read: a process that has a token asks it of the others, and a cluster without one cannot
    answer: its actors would die before they start.
    """
    from ray.exceptions import AuthenticationError

    loader = _tokens()
    loader.reset_cache()
    try:
        if not loader.has_token(ignore_auth_mode=True):
            return {}
        return dict(loader.get_token_for_http_header(ignore_auth_mode=True))
    except (AuthenticationError, RuntimeError, OSError):  # a file that cannot be read is no token
        return {}
    finally:
        loader.reset_cache()


def _token_place() -> str:
    """Where Ray finds the token."""
    return next((name for name in (TOKEN, TOKEN_FILE) if name in os.environ), "~/.ray/auth_token")


def _takes(gcs_address: str, headers: dict[str, str], place: str) -> bool:
    """Whether a head node takes a call with these headers.

    Raises:
        Misuse: if what answers is no Ray.
    """
    import grpc

    said = tuple((name.lower(), value) for name, value in headers.items())
    with _channel(gcs_address) as channel:
        call = channel.unary_unary("/ray.rpc.NodeInfoGcsService/GetClusterId")
        try:
            call(b"", timeout=ANSWERS_WITHIN_S, metadata=said)
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.UNAUTHENTICATED:
                return False
            rule = f"what answers there is no head node of Ray ({error.code().name.lower().replace('_', ' ')})"
            raise Misuse(Problem(place, rule, remedy="give the address that `ray start --head` printed")) from error
    return True


def _channel(gcs_address: str) -> Any:
    """To a head node, as Ray opens one, but for the token."""
    import grpc

    options = (("grpc.enable_http_proxy", 0),)
    if os.environ.get("RAY_USE_TLS", "0").lower() not in ("1", "true"):
        return grpc.insecure_channel(gcs_address, options)
    from ray._common.tls_utils import load_certs_from_env

    chain, key, root = load_certs_from_env()
    return grpc.secure_channel(gcs_address, grpc.ssl_channel_credentials(root, key, chain), options)
