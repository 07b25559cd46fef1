"""The command, against a served gateway."""

import json
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml
from documents import blue, policy, record, red
from live_gateway import BLUE, LiveGateway
from typer.testing import Result

Command = Callable[..., Result]
Written = Callable[..., str]


def text(result: Result, code: int = 0) -> str:
    assert result.exit_code == code, result.output
    return result.output


def document(result: Result, code: int = 0) -> Any:
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def test_apply_waits_and_tells_what_changed(tgw: Command, written: Written, gateway: LiveGateway) -> None:
    first = text(tgw("policy", "apply", written(policy(blue()))))
    assert "+ routing domain blue" in first
    assert "revision 1 programmed" in first
    second = text(tgw("policy", "apply", written(policy(blue(record(11), record(12))))))
    assert "+ routing domain blue, lookup record 6001 10.1.1.12" in second
    assert "revision 2 programmed" in second
    third = text(tgw("policy", "apply", written(policy(blue(record(11), record(12))))))
    assert "no difference" in third
    assert gateway.transactions.held.snapshot.revision == 2


def test_apply_reads_json_and_standard_input(tgw: Command, tmp_path: Path) -> None:
    (tmp_path / "policy.json").write_text(json.dumps(policy(blue())))
    assert "revision 1" in text(tgw("policy", "apply", str(tmp_path / "policy.json")))
    assert "revision 2" in text(tgw("policy", "apply", "-", input=yaml.safe_dump(policy(red()))))


def test_faults_are_printed_one_per_line_with_their_fields(tgw: Command, written: Written) -> None:
    faulty = policy(blue(record(11, mac="nonsense")), red(unknown=1))
    lines = text(tgw("policy", "apply", written(faulty)), 1).splitlines()
    assert any(line.startswith("/routing_domains/0/lookup_records/0/mac: ") for line in lines)
    assert any(line.startswith("/routing_domains/1/unknown: ") for line in lines)


def test_apply_says_which_domains_are_not_programmed(tgw: Command, written: Written, gateway: LiveGateway) -> None:
    gateway.programmer.errors = {BLUE: "no memory left"}
    output = text(tgw("policy", "apply", written(policy(blue()))), 3)
    assert f"{BLUE}: no memory left" in output
    assert "accepted but not programmed" in output


def test_apply_without_waiting_is_content_with_accepted(tgw: Command, written: Written, gateway: LiveGateway) -> None:
    gateway.programmer.open.clear()
    assert "revision 1 accepted" in text(tgw("policy", "apply", "--no-wait", written(policy(blue()))))


def test_diff_changes_nothing(tgw: Command, written: Written, gateway: LiveGateway) -> None:
    text(tgw("policy", "apply", written(policy(blue()))))
    file = written(policy(blue(record(11, provider_address="192.168.1.99")), red()))
    output = text(tgw("policy", "diff", file))
    assert (
        "~ routing domain blue, lookup record 6001 10.1.1.11, provider_address: 192.168.1.10 -> 192.168.1.99" in output
    )
    assert "+ routing domain red" in output
    assert {change["kind"] for change in document(tgw("policy", "diff", "--json", file))} == {"added", "changed"}
    assert gateway.transactions.held.snapshot.revision == 1


def test_show_prints_what_apply_takes(tgw: Command, written: Written) -> None:
    text(tgw("policy", "apply", written(policy(blue(), red()))))
    assert yaml.safe_load(text(tgw("policy", "show"))) == policy(blue(), red())
    assert document(tgw("policy", "show", "--json", "--domain", "Red")) == policy(red())
    assert "there is no routing domain 'green'" in text(tgw("policy", "show", "--domain", "green"), 1)


def test_history_and_rollback(tgw: Command, written: Written) -> None:
    text(tgw("policy", "apply", written(policy(blue()))))
    text(tgw("policy", "apply", written(policy(red()))))
    assert [entry["revision"] for entry in document(tgw("policy", "history", "--json"))] == [2, 1]
    assert "blue" in text(tgw("policy", "history"))
    back = document(tgw("policy", "rollback", "1", "--json"))
    assert back["revision"] == 3
    assert [(change["path"], change["kind"]) for change in back["changes"]] == [
        ("routing domain red", "removed"),
        ("routing domain blue", "added"),
    ]
    assert yaml.safe_load(text(tgw("policy", "show", "--revision", "3"))) == policy(blue())
    assert "is not kept" in text(tgw("policy", "rollback", "9"), 1)


def test_status_shows_domains_ports_and_drops(tgw: Command, written: Written) -> None:
    text(tgw("policy", "apply", written(policy(blue()))))
    output = text(tgw("status"))
    assert "revision 1 programmed" in output
    for word in ("blue", "provider", "corpnet", "no_route", "unknown_vsid", "attached", "192.168.1.99"):
        assert word in output
    assert document(tgw("status", "--json"))["policy"]["programmed"] is True


def test_explain_prints_each_layer_and_the_verdict(tgw: Command, written: Written) -> None:
    text(tgw("policy", "apply", written(policy(blue()))))
    question = ("--from", "overlay", "--vsid", "6001", "--source", "10.1.1.11", "--destination", "157.1.0.9")
    output = text(tgw("explain", *question, "--protocol", "tcp", "--port", "80"))
    assert "Verdict: dropped (no_route)" in output
    assert "/routing_domains/0/virtual_subnets/0" in output
    explanation = document(tgw("explain", *question, "--json"))
    assert (explanation["verdict"], explanation["reason"]) == ("dropped", "no_route")
    wrong = text(tgw("explain", "--source", "nonsense", "--destination", "157.1.0.9", "--vsid", "6001"), 1)
    assert "--source: 'nonsense' is not an IP address" in wrong
    unknown = ("--source", "10.9.9.9", "--destination", "157.1.0.9", "--vsid", "6001")
    assert "--outer-source: 10.9.9.9 has no lookup record" in text(tgw("explain", *unknown), 1)


def test_without_a_configuration_file_the_error_says_how_to_name_it(bare: Command) -> None:
    assert "--config" in text(bare("status"), 1)


def test_with_no_gateway_running_the_error_says_how_to_start_it(tgw: Command, bare: Command, tmp_path: Path) -> None:
    (tmp_path / "dead.toml").write_text(f'state_dir = "{tmp_path}"\n[api]\nlisten = "127.0.0.1:1"\n')
    output = text(tgw("--config", str(tmp_path / "dead.toml"), "status"), 4)
    assert "cannot reach the gateway" in output
    assert "tgw gateway run" in output


def test_a_missing_or_wrong_token_is_told(tgw: Command, tmp_path: Path) -> None:
    assert "--token-file" in text(tgw("--token-file", str(tmp_path / "nothing"), "status"), 4)
    (tmp_path / "wrong").write_text("nonsense")
    output = text(tgw("--token-file", str(tmp_path / "wrong"), "status"), 1)
    assert "The token is not this gateway's" in output


def test_options_override_the_configuration(bare: Command, gateway: LiveGateway, tmp_path: Path) -> None:
    reach = ("--url", gateway.url, "--token-file", str(gateway.state_dir / "admin.token"))
    assert "--ca" in text(bare(*reach, "status"), 4)
    assert "gateway1" in text(bare(*reach, "--ca", str(gateway.state_dir / "tls" / "ca.pem"), "status"))


def test_unreadable_files_are_told(tgw: Command, tmp_path: Path) -> None:
    assert "No such file" in text(tgw("policy", "apply", str(tmp_path / "nothing.yaml")), 1)
    (tmp_path / "policy.txt").write_text("")
    assert ".json" in text(tgw("policy", "apply", str(tmp_path / "policy.txt")), 1)


@pytest.mark.parametrize(
    "command", ["", "gateway run", "policy apply", "policy diff", "status", "explain", "doctor", "capture", "lab up"]
)
def test_every_command_has_help(bare: Command, command: str) -> None:
    assert "Usage" in text(bare(*command.split(), "--help"))


def test_a_wrong_command_line_is_code_2(bare: Command) -> None:
    assert "No such command" in text(bare("polcy"), 2)
    text(bare("policy", "rollback", "-1"), 2)
    assert "https://" in text(bare("--url", "gateway1:8443", "status"), 2)


def test_a_capture_without_a_datapath_says_how_to_have_one(bare: Command, tmp_path: Path) -> None:
    configuration, file = tmp_path / "gateway.toml", tmp_path / "packets.pcapng"
    configuration.write_text(f'state_dir = "{tmp_path}"\n[datapath]\npin_dir = "{tmp_path / "pins"}"\n')
    output = text(bare("--config", str(configuration), "capture", "-w", str(file)), 1)
    assert f"there is no datapath in {tmp_path / 'pins'}" in output
    assert "tgw gateway run" in output
    assert not file.exists()


def test_a_capture_takes_a_vlan_with_a_port_only(bare: Command, tmp_path: Path) -> None:
    assert "give --port" in text(bare("capture", "--vlan", "20", "-w", str(tmp_path / "packets.pcapng")), 2)


def test_a_capture_takes_reasons_with_drops_only(bare: Command, tmp_path: Path) -> None:
    assert "reasons go with --drops" in text(bare("capture", "no_route", "-w", str(tmp_path / "packets.pcapng")), 2)


def test_labs_are_listed(bare: Command) -> None:
    labs = document(bare("lab", "list", "--json"))
    shown = text(bare("lab", "list"))
    assert {"blue-red", "hybrid-cloud"} <= {lab["name"] for lab in labs}
    assert all(lab["name"] in shown and lab["title"] in shown for lab in labs)
    assert "blue-red" in text(bare("lab", "up", "nowhere"), 1)


def test_the_completion_script_is_printed() -> None:
    command = [str(Path(sys.executable).parent / "tgw"), "--show-completion", "bash"]
    assert "_TGW_COMPLETE" in subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_help_does_not_load_what_is_heavy() -> None:
    heavy = ("httpx", "pydantic", "fastapi", "uvicorn", "yaml", "scapy", "numpy", "cryptography", "structlog")
    script = f"import sys, gateway.cli.main; print([name for name in {heavy!r} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert loaded.strip() == "[]"


def test_the_version_is_that_of_the_package(bare: Command) -> None:
    assert text(bare("--version")).strip() == version("tenant-gateway")
