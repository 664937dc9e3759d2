// Receives settler's webhooks and ships what is paid for.   npm install standardwebhooks
//
//     tsc receiver.ts && WEBHOOK_SECRET=whsec_… ORDERS=orders.json PORT=9000 node receiver.js
//
// What must not be left out: the signature over the raw body, ids seen before, versions, and that what was settled is
// what was ordered. What to replace: the maps below by tables of yours, read and written in one transaction.

import { readFileSync } from "node:fs";
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { Webhook } from "standardwebhooks";

type Asset = { chain_id: number; token: string; token_address: string };
type Payment = Asset & { status: string };
type Invoice = {
  id: string;
  version: number;
  reference: string;
  status: string;
  currency: string;
  amount_requested: string;
  amount_settled: string;
  options: Asset[];
  payments: Payment[];
};
type Event = { type: string; data: Invoice };
type Order = { invoice_id: string; amount: string; currency: string; accepts: Asset[] };

const MAX_BYTES = 1_048_576; // settler sends no larger body
const webhook = new Webhook(process.env["WEBHOOK_SECRET"] ?? "");

// What was ordered, by your own reference, written down when the invoice was made:
// {"order-42": {"invoice_id": "inv_…", "amount": "100.00", "currency": "USD",
//               "accepts": [{"chain_id": 8453, "token": "USDC", "token_address": "0x…"}]}}
const orders = new Map<string, Order>(Object.entries(JSON.parse(readFileSync(process.env["ORDERS"] ?? "", "utf8"))));
const seen = new Set<string>();
const versions = new Map<string, number>();
const shipped = new Set<string>();

/** What was done, in words. Quick: slow work (mail, packing) belongs in a queue of yours. */
function handle(id: string, event: Event): string {
  if (seen.has(id)) return "duplicate"; // sent again by a retry or a replay
  const done = actOn(event);
  seen.add(id); // last: what failed half-way is to come again
  return done;
}

function actOn(event: Event): string {
  const invoice = event.data;
  if (event.type !== "invoice.settled" && event.type !== "invoice.reversed") return "ignored";
  // order is not promised: a later state may have come first
  if (invoice.version < (versions.get(invoice.id) ?? 0)) return "older than what is known";
  versions.set(invoice.id, invoice.version);
  const reference = invoice.reference;
  const isOurs = orders.get(reference)?.invoice_id === invoice.id; // others may use the same reference
  if (event.type === "invoice.reversed") return isOurs ? `stop ${reference}` : "ignored"; // the chain took it back
  const wrong = whatIsWrong(invoice, orders.get(reference));
  if (wrong) return `hold ${reference}: ${wrong}`; // for a person to look at
  if (shipped.has(reference)) return `shipped before: ${reference}`;
  shipped.add(reference);
  return `ship ${reference}`;
}

/** Why this is not the payment of that order; empty if it is. A true signature says who sent it, not what for. */
function whatIsWrong(invoice: Invoice, order: Order | undefined): string {
  if (!order) return "no such order";
  if (invoice.id !== order.invoice_id) return "another invoice's";
  if (invoice.status !== "settled" || invoice.currency !== order.currency)
    return "not settled in the currency of the order";
  const ordered = units(order.amount);
  if (units(invoice.amount_requested) !== ordered) return "another amount was asked for";
  if (units(invoice.amount_settled) < ordered) return "less was settled than ordered";
  const name = (a: Asset) => `${a.chain_id} ${a.token} ${a.token_address.toLowerCase()}`;
  const accepted = new Set(order.accepts.map(name));
  if (!invoice.options.every((o) => accepted.has(name(o)))) return "payable in another token or on another chain";
  const paid = invoice.payments.filter((p) => p.status !== "orphaned");
  if (!paid.length || !paid.every((p) => accepted.has(name(p)))) return "paid in another token or on another chain";
  return "";
}

/** "100.00" in units of 10**-36, finer than any token: no number of JavaScript's holds money exactly, a BigInt does. */
function units(amount: string): bigint {
  const [whole = "0", fraction = ""] = amount.split(".");
  return BigInt(whole + fraction.padEnd(36, "0"));
}

async function bodyOf(request: IncomingMessage): Promise<Buffer> {
  const parts: Buffer[] = [];
  let bytes = 0;
  for await (const part of request as AsyncIterable<Buffer>) {
    bytes += part.length;
    if (bytes > MAX_BYTES) throw new Error("the body is too large");
    parts.push(part);
  }
  return Buffer.concat(parts);
}

const server = createServer(async (request, response) => {
  let event: Event;
  try {
    // these very bytes are signed: verify first, parse after; also checks a timestamp within five minutes
    event = webhook.verify(await bodyOf(request), request.headers as Record<string, string>) as Event;
  } catch (error) {
    console.log("refused", error instanceof Error ? error.message : error);
    response.writeHead(401).end();
    return;
  }
  try {
    console.log(handle(request.headers["webhook-id"] as string, event));
    response.writeHead(204).end(); // understood, also where nothing was done; anything but 2xx is sent again
  } catch (error) {
    console.error("failed", error); // uncaught, it would end the process, and with it all other webhooks
    response.writeHead(500).end();
  }
});
server.requestTimeout = 10_000;
server.listen(Number(process.env["PORT"] ?? 9000), "127.0.0.1", () => {
  console.error("listening on", (server.address() as AddressInfo).port);
});
