"""Addresses for people: no password is left in any of them, and nothing else is hidden."""

import os

import pytest

from analysis.records.address import PASSWORD, USERNAME, cleaned, has_secret, log_in, login_of, plain


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://anna:geheim@host:5000/x", "http://anna:***@host:5000/x"),
        ("https://anna:ge@heim@host", "https://anna:***@host"),
        ("postgresql+psycopg2://u:gehe/im@host/db", "postgresql+psycopg2://u:***@host/db"),
        ("mysql://host/db?user=u&password=geheim&x=1", "mysql://host/db?user=u&password=***&x=1"),
        ("https://geheim@host/", "https://***@host/"),
        ("MLflow at 'http://a:geheim@b' and http://c:geheim@d:1", "MLflow at 'http://a:***@b' and http://c:***@d:1"),
    ],
)
def test_a_password_is_hidden_and_hidden_once(text: str, shown: str) -> None:
    assert cleaned(text) == cleaned(shown) == shown
    assert has_secret(text)
    assert not has_secret(shown)


@pytest.mark.parametrize(
    "text",
    [
        "sqlite:////data/a@b/mlflow.db", "http://mlflow:5000/#/models/x@champion", "models:/small.t@champion",
        "mysql://host:3306/db", "write to anna@host: it is http://host:5000",
    ],
)  # fmt: skip
def test_what_is_no_password_stays(text: str) -> None:
    assert cleaned(text) == text


def test_the_login_goes_beside_the_address_and_what_the_user_had_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(USERNAME, "own")
    monkeypatch.delenv(PASSWORD, raising=False)
    assert login_of("http://a%40b:p%2Fw@h:1/x") == {USERNAME: "a@b", PASSWORD: "p/w"}
    assert log_in("http://a%40b:p%2Fw@h:1/x") == plain("http://a%40b:p%2Fw@h:1/x") == "http://h:1/x"
    assert (os.environ[USERNAME], os.environ[PASSWORD]) == ("a@b", "p/w")
    assert log_in("http://other:1") == "http://other:1"
    assert os.environ[USERNAME] == "own"
    assert PASSWORD not in os.environ


def test_a_database_keeps_its_login_which_it_needs() -> None:
    assert plain("postgresql://u:p@h/db") == "postgresql://u:p@h/db"
