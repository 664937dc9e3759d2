"""Defects of the outbox and of webhooks."""

from __future__ import annotations

from tests.simulation.defects_needs import CRASHES, DATABASE, has_receiver
from tests.simulation.defects_planting import Stage, defect, edit


@defect(Stage.TELL)
def tells_at_every_look() -> None:
    """A status is told whenever anything about an invoice changes, not when it changes itself."""
    edit(
        "settler.domain.lifecycle:advance",
        "entered = (_ENTERING[after],) if after is not before else ()",
        "entered = (_ENTERING[after],)",
    )


@defect(Stage.TELL, faults=("transaction dropped", "transaction replaced"))
def tells_nobody_of_what_is_gone() -> None:
    """A payment that a fork took back is taken back in silence."""
    edit(
        "settler.stages.recording:_event_of",
        "return _PAYMENT_EVENTS[t.status]",
        "return None if t.status is TransferStatus.ORPHANED else _PAYMENT_EVENTS[t.status]",
    )


@defect(Stage.TELL, faults=DATABASE)
def has_no_outbox() -> None:
    """Events are written after the transaction that causes them was committed, in one of their own."""
    edit(
        "settler.storage.events:append",
        'await insert_missing(conn, schema.events, rows, key=["type", "object_id", "version"])',
        'conn.sync_connection.info.setdefault("later", []).extend(rows)',
    )
    edit(
        "settler.storage.engine:Database.write",
        "                    yield conn\n",
        "                    later = conn.sync_connection.info['later'] = []\n"
        "                    yield conn\n"
        "        if later:\n"
        "            from settler.storage import schema\n"
        "            from settler.storage.sql import insert_missing\n"
        "            async with self._turn.taken() if self.dialect == 'sqlite' else nullcontext():\n"
        "                with unavailable_as_such(may_write=True):\n"
        "                    async with self._writer.begin() as conn:\n"
        "                        await insert_missing(\n"
        "                            conn, schema.events, later, key=['type', 'object_id', 'version']\n"
        "                        )\n",
    )


@defect(Stage.TELL, lambda plan: plan.receivers > 1)
def tells_every_merchant_all() -> None:
    """An endpoint gets the events of all merchants."""
    edit("settler.domain.delivery:Endpoint.wants", "self.merchant in {None, merchant} and", "")


@defect(Stage.TELL)
def tells_the_state_before() -> None:
    """Events carry an invoice as it was before the change they tell of."""
    edit(
        "settler.stages.assessing:assess_invoices",
        "told += [(after, event) for event in step.events]",
        "told += [(replace(v.invoice, version=after.version), event) for event in step.events]",
    )


@defect(Stage.SEND, has_receiver)
def has_delivered_before_it_sends() -> None:
    """A delivery is marked as done when it is claimed: at most once, instead of at least once."""
    edit(
        "settler.stages.dispatch:Dispatch._hand_out",
        "            claims = await self._claim(conn, now)\n",
        "            claims = await self._claim(conn, now)\n"
        "            for claim in claims:\n"
        "                await webhooks.record_delivered(conn, claim, now, status_code=200)\n",
    )


@defect(Stage.SEND, has_receiver, faults=("slow answer", "connection hangs", "name server is silent"))
def takes_silence_for_consent() -> None:
    """An endpoint that does not answer in time has got it."""
    edit(
        "settler.webhook.send:HttpSender.send",
        'return NoAnswer(reason=f"no answer within {self._timeout_s:g} s")',
        "return Answered(status_code=200)",
    )


@defect(Stage.SEND, has_receiver, faults=("redirect",))
def takes_a_redirect_for_success() -> None:
    """An answer of 3xx counts as delivered."""
    edit("settler.domain.delivery:verdict", "if 200 <= code <= 299:", "if 200 <= code <= 399:")


@defect(Stage.SEND, has_receiver, faults=("redirect",))
def follows_redirects() -> None:
    """Webhooks go wherever an endpoint sends them."""
    edit("settler.webhook.send:HttpSender.send", "allow_redirects=False", "allow_redirects=True")


@defect(Stage.SEND, has_receiver, faults=("DNS rebinding",))
def calls_private_addresses() -> None:
    """What a name resolves to is not looked at."""
    edit("settler.webhook.send:HttpSender.__init__", "vet_nothing if allow_private else vet", "vet_nothing")


@defect(Stage.SEND, has_receiver, faults=CRASHES)
def never_takes_over_a_claim() -> None:
    """What a process that died was sending stays claimed."""
    edit(
        "settler.storage.webhook_claims:claim_due",
        "lease_until = now + timedelta(seconds=lease_s)",
        "lease_until = now + timedelta(days=36500)",
    )


@defect(Stage.SEND, has_receiver, faults=("receiver 5xx",))
def disables_an_endpoint_that_fails() -> None:
    """An endpoint that answers 5xx is not called any more."""
    edit("settler.domain.delivery:verdict", "if code == 410:", "if code == 410 or code >= 500:")


@defect(Stage.SEND, has_receiver)
def signs_what_it_does_not_send() -> None:
    """The signature is of the body without its last byte."""
    edit("settler.stages.dispatch:Dispatch._reply", "now, body, claim", "now, body[:-1], claim")
