from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from live_gateway import LiveGateway
from typer.testing import CliRunner, Result

from gateway.cli.main import app

Command = Callable[..., Result]


@pytest.fixture
def bare(tmp_path_factory: pytest.TempPathFactory) -> Command:
    """Run tgw on this machine without any gateway."""
    missing = tmp_path_factory.mktemp("none") / "gateway.toml"
    return lambda *arguments, **options: CliRunner().invoke(app, ["--config", str(missing), *arguments], **options)


@pytest.fixture
def tgw(gateway: LiveGateway, tmp_path: Path) -> Command:
    """Run tgw with the configuration file of the served gateway."""
    file = tmp_path / "gateway.toml"
    listen = gateway.url.removeprefix("https://")
    file.write_text(f'state_dir = "{gateway.state_dir}"\n[api]\nlisten = "{listen}"\n')
    return lambda *arguments, **options: CliRunner().invoke(app, ["--config", str(file), *arguments], **options)


@pytest.fixture
def written(tmp_path: Path) -> Iterator[Callable[[Any], str]]:
    """Write a document to a YAML file and give its path."""

    def write(document: Any, name: str = "policy.yaml") -> str:
        (tmp_path / name).write_text(yaml.safe_dump(document))
        return str(tmp_path / name)

    yield write
