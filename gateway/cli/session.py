"""How commands reach the gateway: where it listens, the token, the CA; and what its refusals mean to a person."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway.cli.failure import ExitCode, Failure

if TYPE_CHECKING:
    import httpx
    import typer

    from gateway.configuration import GatewayConfiguration

DEFAULT_CONFIGURATION = Path("/etc/tenant-gateway/gateway.toml")
TIMEOUT_SECONDS = 120.0
UNSPECIFIED_HOSTS = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}


@dataclass(frozen=True)
class Session:
    """The global options of one call of `tgw`; what is not given there is taken from the configuration file."""

    configuration_path: Path = DEFAULT_CONFIGURATION
    url: str | None = None
    token_file: Path | None = None
    ca: Path | None = None

    @cached_property
    def configuration(self) -> "GatewayConfiguration":
        """The configuration file's content. Errors: Failure."""
        from gateway.configuration import ConfigurationError, load

        try:
            return load(self.configuration_path)
        except ConfigurationError as error:
            readable = self.configuration_path.is_file()
            raise Failure(str(error), "" if readable else "name the file with --config or TGW_CONFIG") from error

    def get(self, path: str, **arguments: Any) -> "httpx.Response":
        return self.request("GET", path, **arguments)

    def request(
        self,
        method: str,
        path: str,
        *,
        parameters: Mapping[str, str | float] | None = None,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        document: object = None,
    ) -> "httpx.Response":
        """One answer of the gateway with a status below 400. Errors: Failure, with the faults that it named."""
        import httpx

        url = self.url or self._configured_url()
        sent = {"Authorization": f"Bearer {self._token()}", **(headers or {})}
        try:
            with httpx.Client(base_url=url, verify=self._trust(), timeout=TIMEOUT_SECONDS, trust_env=False) as client:
                response = client.request(method, path, params=parameters, headers=sent, content=content, json=document)
        except httpx.ConnectError as error:
            raise _unreachable(url, error) from error
        except httpx.TransportError as error:
            message = f"{url}: the connection broke: {error or type(error).__name__}"
            raise Failure(message, "look at the gateway's log", code=ExitCode.OUT_OF_REACH) from error
        if response.is_error:
            raise _refusal(response)
        return response

    def _configured_url(self) -> str:
        host, _, port = self.configuration.api.listen.rpartition(":")
        return f"https://{UNSPECIFIED_HOSTS.get(host, host)}:{port}"

    def _token(self) -> str:
        path = self.token_file or self.configuration.state_dir / "admin.token"
        try:
            return path.read_text().strip()
        except FileNotFoundError:
            raise Failure(
                f"{path}: there is no token",
                "start the gateway once (tgw gateway run), or name the file with --token-file",
                code=ExitCode.OUT_OF_REACH,
            ) from None
        except PermissionError:
            raise Failure(
                f"{path}: not readable by this user",
                "run as root, or name a readable copy with --token-file",
                code=ExitCode.OUT_OF_REACH,
            ) from None

    def _trust(self) -> Any:
        """Trust the gateway's own CA where it made its certificate itself, else the machine's."""
        import ssl

        path = self.ca
        if path is None and self.url is None and self.configuration.api.certificate is None:
            path = self.configuration.state_dir / "tls" / "ca.pem"
        try:
            return ssl.create_default_context(cafile=os.fspath(path) if path else None)
        except (OSError, ssl.SSLError) as error:
            raise Failure(
                f"{path}: cannot be used as CA: {error}",
                "start the gateway once (tgw gateway run), or name its ca.pem with --ca",
                code=ExitCode.OUT_OF_REACH,
            ) from error


def session_of(context: "typer.Context") -> Session:
    """Return the session of a command line that is still being typed, whose `obj` is not made yet."""
    given = context.find_root().params
    configuration = given["config"] or DEFAULT_CONFIGURATION
    return Session(configuration, given["url"], given["token_file"], given["ca"])


def _unreachable(url: str, error: Exception) -> Failure:
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        mend = "name the gateway's CA with --ca (STATE_DIR/tls/ca.pem)"
    else:
        mend = "is it running? Start it with: tgw gateway run --config FILE"
    return Failure(f"{url}: cannot reach the gateway: {error}", mend, code=ExitCode.OUT_OF_REACH)


def _refusal(response: "httpx.Response") -> Failure:
    if response.headers.get("content-type") != "application/problem+json":
        return Failure(f"{response.status_code} {response.reason_phrase}: {response.text[:500]}")
    problem = response.json()
    details = tuple(f"{error['pointer'] or '/'}: {error['detail']}" for error in problem.get("errors", []))
    message = ": ".join(part for part in (problem["title"], problem.get("detail", "")) if part)
    mend = "name the gateway's token with --token-file" if response.status_code == 401 else ""
    return Failure(message, mend, details)
