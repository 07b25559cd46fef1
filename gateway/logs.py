"""Logs: one line per event on stderr, for eyes where that is a terminal, else as JSON."""

import logging
import sys

import structlog
from structlog.typing import Processor


def configure() -> None:
    """Let structlog and the standard library's loggers (uvicorn's, pyroute2's) write the same lines."""
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso"),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    for_eyes = sys.stderr.isatty()
    traces = structlog.dev.RichTracebackFormatter(show_locals=False)  # a document among the locals has secrets
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *([] if for_eyes else [structlog.processors.format_exc_info]),
                structlog.dev.ConsoleRenderer(exception_formatter=traces)
                if for_eyes
                else structlog.processors.JSONRenderer(),
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
