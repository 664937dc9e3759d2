"""Receives settler's webhooks and ships what is paid for.   pip install standardwebhooks

    WEBHOOK_SECRET=whsec_… ORDERS=orders.json PORT=9000 python receiver.py

What must not be left out: the signature over the raw body, ids seen before, versions, and that what was settled is what
was ordered. What to replace: the dictionaries below by tables of yours, read and written in one transaction.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from standardwebhooks import Webhook, WebhookVerificationError

MAX_BYTES = 1_048_576
"""settler sends no larger body."""

webhook = Webhook(os.environ["WEBHOOK_SECRET"])

# What was ordered, by your own reference, written down when the invoice was made:
# {"order-42": {"invoice_id": "inv_…", "amount": "100.00", "currency": "USD",
#               "accepts": [{"chain_id": 8453, "token": "USDC", "token_address": "0x…"}]}}
orders: dict[str, Any] = json.loads(Path(os.environ["ORDERS"]).read_text())
seen: set[str] = set()
versions: dict[str, int] = {}
shipped: set[str] = set()
one_at_a_time = threading.Lock()


def handle(id_: str, event: dict[str, Any]) -> str:
    """What was done, in words. Quick: slow work (mail, packing) belongs in a queue of yours."""
    if id_ in seen:
        return "duplicate"  # sent again by a retry or a replay
    done = act_on(event)
    seen.add(id_)  # last: what failed half-way is to come again
    return done


def act_on(event: dict[str, Any]) -> str:
    invoice = event["data"]
    if event["type"] not in ("invoice.settled", "invoice.reversed"):
        return "ignored"
    if invoice["version"] < versions.get(invoice["id"], 0):
        return "older than what is known"  # order is not promised: a later state came first
    versions[invoice["id"]] = invoice["version"]
    reference = invoice["reference"]
    if event["type"] == "invoice.reversed":
        is_ours = orders.get(reference, {}).get("invoice_id") == invoice["id"]  # others may use the same reference
        return f"stop {reference}" if is_ours else "ignored"  # the chain took the payment back
    wrong = what_is_wrong(invoice, orders.get(reference))
    if wrong:
        return f"hold {reference}: {wrong}"  # for a person to look at
    if reference in shipped:
        return f"shipped before: {reference}"
    shipped.add(reference)
    return f"ship {reference}"


def what_is_wrong(invoice: dict[str, Any], order: dict[str, Any] | None) -> str:
    """Why this is not the payment of that order; empty if it is. A true signature says who sent it, not what for."""
    if order is None:
        return "no such order"
    if invoice["id"] != order["invoice_id"]:
        return "another invoice's"
    if invoice["status"] != "settled" or invoice["currency"] != order["currency"]:
        return "not settled in the currency of the order"
    if Decimal(invoice["amount_requested"]) != Decimal(order["amount"]):
        return "another amount was asked for"
    if Decimal(invoice["amount_settled"]) < Decimal(order["amount"]):
        return "less was settled than ordered"
    accepted = {(a["chain_id"], a["token"], a["token_address"].lower()) for a in order["accepts"]}
    offered = {(o["chain_id"], o["token"], o["token_address"].lower()) for o in invoice["options"]}
    if not offered <= accepted:
        return "payable in another token or on another chain"
    paid = [p for p in invoice["payments"] if p["status"] != "orphaned"]
    if not paid or not {(p["chain_id"], p["token"], p["token_address"].lower()) for p in paid} <= accepted:
        return "paid in another token or on another chain"
    return ""


class Receiver(BaseHTTPRequestHandler):
    timeout = 10  # of a connection that says nothing

    def do_POST(self) -> None:
        length = self.headers.get("content-length", "")
        if not length.isdecimal() or len(length) > 7 or int(length) > MAX_BYTES:
            self.answer(413)
            return
        body = self.rfile.read(int(length))  # these very bytes are signed: verify first, parse after
        try:
            event = webhook.verify(body, dict(self.headers))  # signature, and a timestamp within five minutes
        except (WebhookVerificationError, ValueError) as error:  # ValueError: headers that are no headers
            print("refused", error, flush=True)
            self.answer(401)
            return
        with one_at_a_time:
            print(handle(self.headers["webhook-id"], event), flush=True)
        self.answer(204)  # understood, also where nothing was done; anything but 2xx is sent again for three days

    def answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "9000"))), Receiver)
    print("listening on", server.server_address[1], file=sys.stderr, flush=True)
    server.serve_forever()
