"""MLflow's address without what nobody else may read: a password is handed to MLflow, and shown to no one."""

import os
import re
from urllib.parse import unquote, urlsplit, urlunsplit

HIDDEN = "***"
USERNAME, PASSWORD = "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"
"""Variables of the environment from which MLflow's client takes a login: then no request's URL holds it."""

_LOGINS = (
    re.compile(r"([A-Za-z][\w+.\-]*://)([^\s/:@?#]*):[^\s/?#]*@"),
    re.compile(
        r"((?:postgres|mysql|mssql|oracle)[\w+.\-]*://)([^\s/:@?#]*):[^\s@]*@"
    ),  # whose passwords may hold a slash
)
_TOKEN = re.compile(r"([A-Za-z][\w+.\-]*://)(?!\*\*\*@)[^\s/:@?#]+@")
_QUERY = re.compile(r"(?i)([?&][^=&\s]*(?:password|passwd|pwd|token|secret|credential|api_?key)[^=&\s]*=)[^&\s'\"]+")


def cleaned(text: str) -> str:
    """A text with every password in the addresses that stand in it hidden: `http://user:***@host`.

    A name without a password may be a token, and is hidden too.
    """
    for login in _LOGINS:
        text = login.sub(rf"\1\2:{HIDDEN}@", text)
    return _QUERY.sub(rf"\1{HIDDEN}", _TOKEN.sub(rf"\1{HIDDEN}@", text))


def has_secret(text: str) -> bool:
    """Whether a text holds an address with a password or a token."""
    return cleaned(text) != text


def plain(uri: str) -> str:
    """A server's address without its login, as MLflow's client gets it; a database's as it is, which needs it."""
    if not login_of(uri):
        return uri
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def login_of(uri: str) -> dict[str, str]:
    """The variables that hold the login of a server's address; empty where it has none, or no password."""
    if not uri.startswith(("http://", "https://")):
        return {}
    name, _, password = urlsplit(uri).netloc.rpartition("@")[0].partition(":")
    return {USERNAME: unquote(name), PASSWORD: unquote(password)} if password else {}


class _Login:
    """The login in this process's environment, and what stood there before ours."""

    def __init__(self) -> None:
        self.before: dict[str, str | None] | None = None

    def use(self, wanted: dict[str, str]) -> None:
        """Puts a login into the environment; an empty one puts back what the user had."""
        if self.before is None:
            self.before = {name: os.environ.get(name) for name in (USERNAME, PASSWORD)}
        for name, value in (wanted or self.before).items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        if not wanted:
            self.before = None


_LOGIN = _Login()


def log_in(uri: str) -> str:
    """Hands a server's login to MLflow's client of this process; the address without it."""
    _LOGIN.use(login_of(uri))
    return plain(uri)
