"""POST /v1/explain: the way of a packet that is described in words."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from gateway.api.machine import Machine
from gateway.api.services import Services
from gateway.datapath.model.question import Question
from gateway.transactions import Transactions


class PacketDescription(BaseModel):
    """A packet in words; addresses, protocol and ports are those of the inner packet where it comes in a tunnel."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "from": "overlay",
                    "vsid": 6001,
                    "source": "10.1.1.11",
                    "destination": "198.51.100.9",
                    "protocol": "tcp",
                    "port": 80,
                }
            ]
        },
    )

    origin: Annotated[
        str, Field(alias="from", description="'overlay', an external port's name, or a tunnel as DOMAIN/CONNECTION.")
    ] = "overlay"
    vsid: Annotated[int | None, Field(description="The virtual subnet it comes from; needed from the overlay.")] = None
    vlan: Annotated[int, Field(ge=0, le=4094, description="0 is the port's own.")] = 0
    outer_source: Annotated[str | None, Field(description="Sending host's PA; default: that of the record.")] = None
    encapsulation: Annotated[
        Literal["vxlan", "nvgre", "rewrite"] | None, Field(description="Default: that of the record.")
    ] = None
    source: str
    destination: str
    protocol: Annotated[str | int, Field(description="tcp, udp, icmp, icmpv6 or a number.")] = "icmp"
    port: Annotated[int, Field(ge=0, le=65535, description="Destination port.")] = 0
    source_port: Annotated[int, Field(ge=0, le=65535)] = 49152
    length: Annotated[int, Field(ge=0, le=65535, description="Bytes of the IP packet; 0: just its headers.")] = 0
    ttl: Annotated[int, Field(ge=0, le=255, description="TTL or hop limit on arrival.")] = 64


_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The verdict, and each layer's part in it with the entry that decided.",
        "content": {
            "application/json": {
                "example": {
                    "verdict": "dropped",
                    "reason": "no_route",
                    "domain": "11111111-2222-3333-4444-000000000001",
                    "interface": None,
                    "frame": None,
                    "steps": [
                        {"layer": "port", "entry": "/ports/0", "words": "It arrives on eth1, untagged."},
                        {"layer": "verdict", "entry": "", "words": "No prefix of the routing domain holds it."},
                    ],
                }
            }
        },
    }
}


def router(transactions: Transactions, machine: Machine, services: Services) -> APIRouter:
    router = APIRouter(tags=["operation"])

    @router.post("/v1/explain", summary="What becomes of a packet, and why", responses=_ANSWER)
    def post_explain(packet: PacketDescription) -> JSONResponse:
        policy = transactions.held.policy
        serving = services.serving(policy.routing_domains)
        return JSONResponse(machine.explain(policy, Question(**packet.model_dump()), serving))

    return router
