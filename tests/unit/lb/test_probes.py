"""One probe, of servers on loopback that do as they please."""

import socket
import threading
import time
from collections.abc import Callable

import pytest
from balancing_servers import Behaviour, answer, closed, dripping, endless, reset, said, serving, silence

from lb.health import Outcome

Probing = Callable[..., Outcome]
OK = Outcome(True, "ok")


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("protocol", ["tcp", "http"])
def test_a_server_that_answers_passes(probe: Probing, protocol: str, address: str) -> None:
    with serving(answer(b"Content-Length: 0\r\n"), address) as port:
        assert probe(port, protocol, address) == OK


def test_a_server_that_only_listens_passes_a_tcp_probe(probe: Probing) -> None:
    with serving(silence) as port:
        assert probe(port, "tcp") == OK


def test_the_request_asks_for_the_path_of_the_member_from_the_source_address(probe: Probing) -> None:
    seen = []

    def note(connection: socket.socket, ended: threading.Event) -> None:
        seen.append((connection.getpeername()[0], connection.recv(4096).decode().splitlines()))
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")

    with serving(note) as port:
        assert probe(port, path="/health?deep=1") == OK
    ((source, lines),) = seen
    assert source == "127.0.0.2"
    assert lines[0] == "GET /health?deep=1 HTTP/1.1"
    assert f"Host: 127.0.0.1:{port}" in lines


def test_an_expected_status_other_than_200_passes(probe: Probing) -> None:
    with serving(answer(b"", "204 No Content")) as port:
        assert probe(port, expect_status=204) == OK


def test_a_redirect_is_not_followed(probe: Probing) -> None:
    with serving(answer(b"", "200 OK")) as elsewhere:
        location = f"Location: http://127.0.0.1:{elsewhere}/\r\n".encode()
        with serving(answer(location, "302 Found")) as port:
            assert probe(port) == Outcome(False, "status 302, expected 200")


def test_an_interim_answer_is_not_the_answer(probe: Probing) -> None:
    with serving(said(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\n\r\n")) as port:
        assert probe(port) == OK


def test_a_head_in_pieces_is_put_together(probe: Probing) -> None:
    with serving(dripping(b"HTTP/1.1 200 OK\r\n\r\n", 0.002)) as port:
        assert probe(port) == OK


def test_nobody_who_listens_is_refused(probe: Probing) -> None:
    with serving(silence) as port:
        pass
    assert probe(port) == Outcome(False, "refused")


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        (reset, "reset"),
        (closed, "no HTTP answer: "),
        (said(b"SSH-2.0-OpenSSH_9.2\r\n"), "no HTTP answer: "),
        (said(b"\x00" * 5000), "no HTTP answer: "),
        (answer(b"", "2000 Much"), "no HTTP answer: "),
        (endless(b"HTTP/1.1 200 OK\r\n", b"X-More: header\r\n"), "no HTTP answer: "),
        (endless(b"HTTP/1.1 200 OK\r\nX-Long: ", b"x"), "no HTTP answer: "),
        (endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), "no HTTP answer: no final status in 16,384 bytes"),
    ],
    ids=[
        "reset",
        "closed",
        "another protocol",
        "zeros",
        "no status",
        "endless header",
        "endless field",
        "endless interim",
    ],
)
def test_what_is_no_answer_fails_and_says_so_shortly(probe: Probing, behaviour: Behaviour, words: str) -> None:
    with serving(behaviour) as port:
        outcome = probe(port, timeout_s=2)
    assert outcome.passed is False
    assert outcome.words.startswith(words)
    assert len(outcome.words) < 250


@pytest.mark.parametrize(
    "behaviour",
    [
        silence,
        dripping(b"HTTP/1.1 200 OK\r\n" + b"X-Slow: 1\r\n" * 900, 0.01),
        dripping(b"HTTP/1.1 100 C\r\n\r\n", 0.01),
    ],
    ids=["silent", "byte by byte", "interim answers byte by byte"],
)
def test_a_slow_server_does_not_hold_a_probe_beyond_its_time_limit(probe: Probing, behaviour: Behaviour) -> None:
    with serving(behaviour) as port:
        start = time.monotonic()
        outcome = probe(port, timeout_s=1)
        elapsed = time.monotonic() - start
    assert outcome == Outcome(False, "timed out")
    assert elapsed < 5  # it would go on for ever


def test_a_body_without_end_is_not_read(probe: Probing) -> None:
    sent = []

    def pour(connection: socket.socket, ended: threading.Event) -> None:
        connection.settimeout(5)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            while True:
                sent.append(connection.send(b"x" * 65536))
        except OSError as error:
            sent.append(error)

    with serving(pour) as port:
        assert probe(port) == OK
    assert isinstance(sent[-1], ConnectionError)  # it was told to stop


def test_a_source_address_that_is_not_ours_is_no_verdict_about_the_member(probe: Probing) -> None:
    with serving(silence) as port:
        outcome = probe(port, source="192.0.2.1")
    assert outcome.passed is None
    assert outcome.words.startswith("not probed: ")


def test_a_time_limit_that_passed_while_the_gateway_stood_still_is_no_verdict(probe: Probing) -> None:
    with serving(silence) as port:
        outcome = probe(port, meanwhile=lambda: time.sleep(1.5))
    assert outcome == Outcome(None, "not probed: the gateway was too busy to see an answer")
