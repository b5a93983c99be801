"""The doctor: what it finds here, and what it says where something is wrong."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from curate import doctor
from curate.cli import main
from curate.doctor import Finding, examine, padding_variance


def by_subject(findings: Iterator[Finding]) -> dict[str, Finding]:
    return {found.subject: found for found in findings}


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test waits for the hub."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def test_this_installation_has_no_problem(tmp_path: Path) -> None:
    found = list(examine(tmp_path))
    assert [each for each in found if each.status == "problem"] == []
    subjects = {each.subject for each in found}
    assert {"packages", "gpu", "precision", "attention", "faiss", "padding", "ray", "disk", "hub"} <= subjects


def test_a_cluster_that_does_not_answer_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening
        monkeypatch.setenv("RAY_ADDRESS", f"ray://127.0.0.1:{taken.getsockname()[1]}")
        found = by_subject(examine(tmp_path))["ray"]
    assert found.status == "problem"
    assert "ray start --head" in found.remedy


def test_a_cluster_that_answers_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{listening.getsockname()[1]}")
        assert by_subject(examine(tmp_path))["ray"].status == "ok"


def test_a_cluster_whose_port_is_none_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "ray://head:99999")
    found = by_subject(examine(tmp_path))["ray"]
    assert found.status == "problem"
    assert "RAY_ADDRESS is ray://head:99999" in found.text


def test_a_hub_is_asked_at_its_own_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        monkeypatch.delenv("HF_HUB_OFFLINE")
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{listening.getsockname()[1]}")
        assert by_subject(examine(tmp_path))["hub"].status == "ok"


def test_a_missing_package_is_named_with_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "REQUIRED", (*doctor.REQUIRED, "no-such-package"))
    found = [each for each in examine(tmp_path) if each.status == "problem"]
    assert [each.text for each in found] == ["not installed: no-such-package"]
    assert "pip install" in found[0].remedy


def test_logits_that_padding_moves_are_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "padding_variance", lambda dtype: 0.5)
    assert by_subject(examine(tmp_path))["padding"].status == "problem"


def test_padding_moves_nothing_in_float32() -> None:
    assert padding_variance("float32") < 1e-5


def test_a_check_that_fails_is_a_problem_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(dtype: str) -> float:
        raise RuntimeError("no kernel")

    monkeypatch.setattr(doctor, "padding_variance", broken)
    found = by_subject(examine(tmp_path))
    assert "no kernel" in found["padding"].text
    assert found["disk"].status == "ok"


def test_the_command_prints_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["doctor", "--runs", str(tmp_path / "not" / "yet"), "--json"])
    assert stopped.value.code == 0
    assert {each["status"] for each in json.loads(capsys.readouterr().out)} <= {"ok", "warning"}


def test_the_command_fails_where_there_is_a_problem(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "REQUIRED", ("no-such-package",))
    with pytest.raises(SystemExit) as stopped:
        main(["doctor"])
    assert stopped.value.code == 1
    assert "problem" in capsys.readouterr().out
