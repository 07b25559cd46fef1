"""The certificate that the API shows: made, made anew where it does not serve, and changed while it is served."""

import ssl
import threading
from pathlib import Path

import pytest
from fastapi import FastAPI

from gateway.api.secrets import CertificateError, CertificateFiles, given_certificate, server_certificate
from gateway.api.server import listen, server


def is_usable(files: CertificateFiles) -> bool:
    return given_certificate(files) == files


def test_what_serves_is_kept(tmp_path: Path) -> None:
    before = server_certificate(tmp_path, ("gateway1",)).certificate.read_bytes()
    assert server_certificate(tmp_path, ("gateway1",)).certificate.read_bytes() == before
    assert server_certificate(tmp_path, ("gateway2",)).certificate.read_bytes() != before


@pytest.mark.parametrize("name", ["server.key", "server.pem"])
@pytest.mark.parametrize("content", [b"", b"\0" * 100, "another's"])
def test_files_that_do_not_belong_together_are_made_anew(tmp_path: Path, name: str, content: bytes | str) -> None:
    files = server_certificate(tmp_path, ())
    others = Path(str(files.certificate.with_name(name)).replace("server", "ca")).read_bytes()
    files.certificate.with_name(name).write_bytes(content if isinstance(content, bytes) else others)
    assert is_usable(server_certificate(tmp_path, ()))


def test_a_damaged_ca_is_named_and_left_to_the_administrator(tmp_path: Path) -> None:
    directory = server_certificate(tmp_path, ()).certificate.parent
    (directory / "ca.pem").write_bytes(b"")
    with pytest.raises(CertificateError, match=r"ca\.pem .* restore both from a backup"):
        server_certificate(tmp_path, ())


def test_a_given_certificate_that_no_server_can_use_is_refused_by_its_field(tmp_path: Path) -> None:
    ours = server_certificate(tmp_path, ())
    for files in (CertificateFiles(tmp_path / "none", ours.private_key), CertificateFiles(*reversed(ours))):
        with pytest.raises(CertificateError, match=r"api\.certificate .* api\.private_key"):
            given_certificate(files)


def test_who_connects_after_a_renewal_is_shown_the_new_certificate(tmp_path: Path) -> None:
    listener, ready = listen("127.0.0.1:0"), threading.Event()
    serving = server(FastAPI(), server_certificate(tmp_path, ()), ready.set)
    thread = threading.Thread(target=serving.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        assert ready.wait(30)
        before = ssl.get_server_certificate(listener.getsockname())
        renewed = server_certificate(tmp_path, ("another.name",))
        serving.take(renewed)
        after = ssl.get_server_certificate(listener.getsockname())
    finally:
        serving.should_exit = True
        thread.join()
    assert before != after
    assert after.split() == renewed.certificate.read_text().split()
