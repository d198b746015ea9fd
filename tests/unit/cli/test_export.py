"""``agentrt export nats-permissions``."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import nkeys
import pytest
from typer.testing import CliRunner, Result

from agentrt.cli.exits import ExitCode
from agentrt.cli.main import app

CONFIG = """
schema = 1
[fleet]
name = "newsroom"
[agents.editor]
class = "newsroom:Editor"
[bus]
url = "nats://example.org"
"""


def export(folder: Path, more: str = "", *args: str) -> Result:
    (folder / "config.toml").write_text(CONFIG + more)
    return CliRunner().invoke(app, ["export", "nats-permissions", "--config", str(folder / "config.toml"), *args])


def test_each_agent_and_the_fleet_is_a_user_with_a_password_from_the_server_s_environment(tmp_path: Path) -> None:
    """A password in a file gets a variable too, and is not read: it may not be there where this is run."""
    found = export(
        tmp_path,
        'user = "desk"\npassword = "env:DESK"\n[agents.editor.bus]\nuser = "ed"\npassword = "file:secrets/ed"',
    )
    assert (0, "") == (found.exit_code, found.stderr)
    assert ['user: "desk"', "password: $DESK", 'user: "ed"', "password: $NEWSROOM_EDITOR_PASSWORD"] == re.findall(
        r"^ *(user: .*|password: .*)$", found.stdout, re.MULTILINE
    )
    assert "# NEWSROOM_EDITOR_PASSWORD is the content of secrets/ed" in found.stdout


def test_who_has_no_login_of_its_own_gets_one_proposed(tmp_path: Path) -> None:
    """On standard error too, so that it is not overlooked."""
    found = export(tmp_path, 'user = "desk"\npassword = "env:DESK"')
    proposed = '[agents.editor.bus] user = "newsroom-editor", password = "env:NEWSROOM_EDITOR_PASSWORD"'
    assert f"agentrt: agent editor has no login of its own; add {proposed}\n" == found.stderr
    assert f"# proposed: {proposed}" in found.stdout
    assert 'user: "newsroom-editor"' in found.stdout


def test_an_nkey_is_named_by_its_public_part_and_its_seed_is_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed = bytes(nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)).decode()
    public = bytes(nkeys.from_seed(bytearray(seed.encode())).public_key).decode()
    monkeypatch.setenv("SEED", seed)
    more = '[agents.editor.bus]\nnkey = "env:SEED"'
    for form in ("conf", "json"):
        found = export(tmp_path, more, "--format", form)
        assert public in found.stdout
        assert seed not in found.output
    monkeypatch.setenv("SEED", "SUAB")
    assert "nkey is not the seed of a user" in export(tmp_path, more).stderr
    monkeypatch.delenv("SEED")
    failed = export(tmp_path, more)
    assert (ExitCode.CONFIG, True) == (failed.exit_code, "SEED is not set" in failed.stderr)


def test_who_is_named_elsewhere_is_not_named_here(tmp_path: Path) -> None:
    """The user of a credentials file gets its permissions from its JWT: they are there to be copied, as comments.

    So is what the fleet's account would let in an account that is not here: a server ends over one that it cannot find.
    """
    found = export(tmp_path, 'nkey = "env:X"\n[agents.editor.bus]\ncreds = "file:ed.creds"').exit_code
    assert ExitCode.CONFIG == found
    text = export(tmp_path, '[agents.editor.bus]\ncreds = "file:ed.creds"').stdout
    fleet, editors = text.split("# agent editor", 1)
    assert [] == [line for line in fleet.splitlines() if "newsroom-editor" in line and not line.strip().startswith("#")]
    editor = editors.removesuffix("}\n").splitlines()[1:]
    assert [] == [line for line in editor if not line.strip().startswith("#")]
    assert any('"newsroom.dlq.editor"' in line for line in editor)
    certificate = export(tmp_path, '[agents.editor.bus]\ntls_cert = "ed.pem"\ntls_key = "ed.key"').stdout
    assert 'user: "the subject of ed.pem"' in certificate
    assert "verify_and_map" in certificate


def test_a_token_has_no_permissions_of_its_own(tmp_path: Path) -> None:
    failed = export(tmp_path, '[agents.editor.bus]\ntoken = "env:T"')
    assert ExitCode.CONFIG == failed.exit_code
    assert "[agents.editor.bus] logs in with a token, to which a nats-server gives no permissions" in failed.stderr


def test_a_script_gets_the_same_as_json(tmp_path: Path) -> None:
    found = json.loads(export(tmp_path, "", "--format", "json").stdout)
    fleet, editor = found["users"]
    assert ("bus", "agents.editor.bus") == (fleet["table"], editor["table"])
    assert {"user": "newsroom-editor", "password": "$NEWSROOM_EDITOR_PASSWORD"} == editor["login"]
    assert {"_INBOX_newsroom_editor.>", "newsroom.outcomes.*"} == set(editor["permissions"]["subscribe"]["allow"])
    assert "$JS.API.STREAM.CREATE.newsroom-tasks" in fleet["permissions"]["publish"]["allow"]
    assert ("newsroom", "newsroom-editor", []) == (fleet["account"], editor["account"], fleet["asks"])
    info, dead = "STREAM.INFO.newsroom-tasks", "newsroom.dlq.editor"
    assert {"subject": f"$JS.API.{info}", "local": f"agentrt.jetstream.{info}", "answers": False} in editor["asks"]
    assert {"subject": dead, "local": dead, "answers": False} in editor["asks"]
    local = "agentrt.said.newsroom-editor.newsroom.outcomes.*"
    assert [{"subject": "newsroom.outcomes.*", "local": local, "answers": False}] == editor["says"]


def test_nobody_but_the_agents_that_need_it_is_let_in(tmp_path: Path) -> None:
    """Each subject names their accounts, and is there once; what more than one answer comes to says so."""
    more = '[agents.writer]\nclass = "newsroom:Writer"'
    text = export(tmp_path, "", "--format", "conf").stdout
    assert '{ service: "newsroom.tasks.*.*", accounts: ["newsroom-editor"] }' in text
    (tmp_path / "config.toml").write_text(CONFIG.replace("[bus]", f"{more}\n[bus]"))
    path = str(tmp_path / "config.toml")
    both = CliRunner().invoke(app, ["export", "nats-permissions", "--config", path]).stdout
    assert 1 == both.count('{ service: "newsroom.tasks.*.*", accounts: ["newsroom-editor", "newsroom-writer"] }')
    assert '{ service: "newsroom.dlq.writer", accounts: ["newsroom-writer"] }' in both
    following = "$JS.API.CONSUMER.MSG.NEXT.newsroom-tasks.writer-low"
    assert f'{{ service: "{following}", accounts: ["newsroom-writer"], response_type: stream }}' in both
    said = "agentrt.said.newsroom-editor.newsroom.outcomes.*"
    assert 1 == both.count(f'{{ stream: "{said}", accounts: ["newsroom", "newsroom-writer"] }}')
    heard = f'{{ stream: {{ account: "newsroom-editor", subject: "{said}" }}, to: "newsroom.outcomes.$1" }}'
    assert 2 == both.count(heard)


def test_no_subject_takes_all_of_something(tmp_path: Path) -> None:
    """Only acknowledgements, answers, and the registry, which the fleet alone keeps, end in a wildcard for the rest."""
    endless = ("$JS.ACK.newsroom-", "_INBOX_news", "$KV.newsroom-registry.")
    for user in json.loads(export(tmp_path, "", "--format", "json").stdout)["users"]:
        allowed = user["permissions"]["publish"]["allow"] + user["permissions"]["subscribe"]["allow"]
        open_ended = [subject for subject in allowed if subject.endswith(">")]
        assert [] == [subject for subject in open_ended if not subject.startswith(endless)]
        if user["table"] != "bus":
            assert [] == [subject for subject in open_ended if "registry" in subject]
