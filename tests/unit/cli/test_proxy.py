"""The configuration of the proxy as the command line reads it: a file, options, and what is wrong with them."""

from __future__ import annotations

import pytest
import typer

from actors.mcp_proxy import open_proxy
from agentrt.cli.exits import ExitCode, Failure
from agentrt.cli.proxy import read, serve_proxy

URL = "http://127.0.0.1:1/mcp"


def test_options_win_over_the_file(tmp_path):
    file = tmp_path / "proxy.toml"
    file.write_text(f'[proxy]\nlisten = "127.0.0.1:1"\nretries = 5\n[backends.a]\nurl = ["{URL}"]\n')
    found = read(file, {"listen": "127.0.0.1:2"}, ["a=http://x/mcp", "t/b=http://y/mcp"])
    assert ("127.0.0.1:2", 5) == (found.proxy.listen, found.proxy.retries)
    assert ("http://x/mcp",) == found.backends["a"].url
    assert ("http://y/mcp",) == found.tenants["t"]["b"].url


@pytest.mark.parametrize(
    ("options", "backends", "said"),
    [
        ({}, [], "command line: backends: there is nothing to stand before; add a table [backends.NAME] with a url"),
        ({}, ["web=ftp://x"], "command line: backends.web.url: not the URL of a tool server"),
        ({"listen": "here"}, [f"web={URL}"], "command line: proxy.listen: must be host:port"),
        ({"drain_timeout": "soon"}, [f"web={URL}"], "command line: proxy.drain_timeout: not a duration"),
    ],
)
def test_a_command_line_that_cannot_be_says_why(options, backends, said):
    with pytest.raises(Failure) as caught:
        read(None, options, backends)
    assert (ExitCode.CONFIG, True) == (caught.value.code, said in str(caught.value)), str(caught.value)


def test_what_names_no_backend_is_a_mistake_of_the_command_line():
    with pytest.raises(typer.BadParameter, match="not a backend"):
        read(None, {}, ["web"])


def test_every_mistake_in_the_file_is_told_with_its_line(tmp_path):
    file = tmp_path / "proxy.toml"
    file.write_text('[proxy]\nlistn = "x"\n\n[backends.web]\nurl = []\n\n[tenants.web.a]\nurl = ["http://x/mcp"]\n')
    with pytest.raises(Failure) as caught:
        read(file, {}, [])
    said = str(caught.value).splitlines()
    assert f'{file}:2: proxy.listn: unknown key; did you mean "listen"?' in said
    assert f"{file}:5: backends.web.url: must not be empty" in said
    assert any(line.startswith(f'{file}:7: tenants.web: "web" is a backend, too') for line in said)


@pytest.mark.parametrize(
    ("text", "said"),
    [(None, "cannot be read: No such file or directory"), ("[proxy", "not valid TOML"), ("\xff", "not valid TOML")],
)
def test_a_file_that_cannot_be_read_says_why(tmp_path, text, said):
    file = tmp_path / "proxy.toml"
    if text is not None:
        file.write_text(text, "latin-1")
    with pytest.raises(Failure, match=said):
        read(file, {}, [])


def test_an_address_that_is_not_ours_is_told():
    with pytest.raises(Failure, match=r"cannot listen on 192\.0\.2\.1:80") as caught:
        serve_proxy(open_proxy, None, {"listen": "192.0.2.1:80"}, [f"web={URL}"], "error")
    assert ExitCode.SYSTEM == caught.value.code


def test_a_level_that_is_none_is_refused():
    with pytest.raises(typer.BadParameter, match="is one of debug, info, warning, error"):
        serve_proxy(open_proxy, None, {}, [f"web={URL}"], "loud")
