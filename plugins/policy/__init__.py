"""The native dialect: the policy document itself, as JSON or YAML, over HTTP."""

from fastapi import APIRouter

from gateway.transactions import Transactions
from plugins.policy import history, policies, routing_domains

OWNER = "policy"


class NativePolicy:
    """The plug-in `policy`."""

    name = OWNER

    def router(self, transactions: Transactions) -> APIRouter:
        router = APIRouter(prefix="/v1")
        for part in (policies, routing_domains, history):
            router.include_router(part.router(transactions, OWNER))
        return router


plugin = NativePolicy()
