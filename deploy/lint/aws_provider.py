"""A stand-in for the AWS provider, so that Terraform itself validates and plans a configuration where neither the
registry nor AWS is to be had.

It has the real provider's types, arguments, nested blocks and attributes (aws_schema.py) and nothing behind them: a
plan shows what Terraform makes of the configuration, every computed attribute is unknown, every data source answers
with made-up words. So a plan here proves names, types, references and expressions, not that AWS takes a value.

Terraform starts it as `terraform-provider-aws`, reads the address of its gRPC server from standard output, and speaks
version 6 of its plugin protocol. Messages are put together by hand: they are few, and nothing generates them here.

    python aws_provider.py SCHEMA.json
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import msgpack

MAGIC_COOKIE = ("TF_PLUGIN_MAGIC_COOKIE", "d602bf8f470bc67ca7faa0386276bbdd4330efaf76d1a219cb4d6991ca9872b2")
"""Not a secret: how a plugin knows that Terraform started it."""
KNOWN = "AWS_PROVIDER_KNOWN"
"""The variable that asks for made-up values in a plan: 1."""
UNKNOWN = msgpack.ExtType(0, b"\x00")
NESTING = {"single": 1, "list": 2, "set": 3}
MADE_UP: dict[str, Any] = {
    "account_id": "123456789012",
    "partition": "aws",
    "region": "eu-central-1",
    "names": ["eu-central-1a", "eu-central-1b", "eu-central-1c"],
    "cidr_block": "10.20.0.0/20",
    "json": '{"Version":"2012-10-17","Statement":[]}',
}


# -- protobuf, as much of it as is needed ------------------------------------------------------------------------------


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value) if value else b""


def blob(field: int, value: bytes | str) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return varint(field << 3 | 2) + varint(len(data)) + data


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def fields(message: bytes) -> dict[int, bytes]:
    """The length-delimited fields of a message, the last of each number."""
    found, at = {}, 0
    while at < len(message):
        key, at = read_varint(message, at)
        if key & 7 == 2:
            size, at = read_varint(message, at)
            found[key >> 3] = message[at : at + size]
            at += size
        elif key & 7 == 0:
            _, at = read_varint(message, at)
        else:
            raise ValueError(f"field {key >> 3} of a request has the unexpected wire type {key & 7}")
    return found


def read_varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def packed(value: Any) -> bytes:
    """A DynamicValue."""
    return blob(1, msgpack.packb(value))


def unpacked(dynamic: bytes) -> Any:
    return msgpack.unpackb(fields(dynamic)[1], strict_map_key=False)


# -- the schema --------------------------------------------------------------------------------------------------------


def schema_message(schema: dict[str, Any]) -> bytes:
    return blob(2, block_message(schema))


def block_message(schema: dict[str, Any]) -> bytes:
    out = b""
    for attribute in schema["attributes"]:
        out += blob(
            2,
            blob(1, attribute["name"])
            + blob(2, json.dumps(attribute["type"]))
            + number(4, attribute["required"])
            + number(5, attribute["optional"])
            + number(6, attribute["computed"])
            + number(11, attribute.get("write_only", False)),
        )
    for block in schema["blocks"]:
        out += blob(
            3,
            blob(1, block["name"])
            + blob(2, block_message(block["block"]))
            + number(3, NESTING[block["nesting"]])
            + number(4, block["min"])
            + number(5, block["max"]),
        )
    return out


def filled(schema: dict[str, Any], value: dict[str, Any], fill: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    """What a configuration leaves to the provider, filled in; and write-only values taken out."""
    out = dict(value)
    for attribute in schema["attributes"]:
        if attribute.get("write_only"):
            out[attribute["name"]] = None
        elif attribute["computed"] and out.get(attribute["name"]) is None:
            out[attribute["name"]] = fill(attribute)
    for block in schema["blocks"]:
        inner = out.get(block["name"])
        if isinstance(inner, list):
            out[block["name"]] = [filled(block["block"], each, fill) for each in inner if isinstance(each, dict)]
    return out


def made_up(attribute: dict[str, Any]) -> Any:
    name, kind = attribute["name"], attribute["type"]
    if name in MADE_UP:
        return MADE_UP[name]
    match kind:
        case "string":
            return f"made-up-{name.replace('_', '-')}"
        case "number":
            return 1
        case "bool":
            return True
        case ["list" | "set", _]:
            return []
        case ["map", _]:
            return {}
        case _:
            return None


# -- the calls ---------------------------------------------------------------------------------------------------------


class Provider(grpc.GenericRpcHandler):
    def __init__(self, schemas: dict[str, Any], stop: threading.Event, *, is_known: bool) -> None:
        """`is_known`: computed attributes of new resources are made up as well, so that a plan shows all that is built
        of them. Otherwise they are unknown, as they really are before the first apply."""
        self._schemas = schemas
        self._is_known = is_known
        self._stop = stop

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        service, _, method = details.method.strip("/").rpartition("/")
        calls: dict[str, Callable[[bytes], bytes]] = {
            "GetProviderSchema": self.get_schema,
            "PlanResourceChange": self.plan,
            "ReadDataSource": self.read,
            "OpenEphemeralResource": self.open,
        }
        # Nothing to say against a configuration that fits the schema: an empty answer.
        silent = {"ValidateProviderConfig", "ValidateResourceConfig", "ValidateDataResourceConfig", "ConfigureProvider"}
        silent |= {"ValidateEphemeralResourceConfig", "CloseEphemeralResource", "StopProvider"}
        if service == "tfplugin6.Provider" and method in calls:
            return _answering(calls[method])
        if service == "tfplugin6.Provider" and method in silent:
            return _answering(lambda _: b"")
        if service == "grpc.health.v1.Health" and method == "Check":
            return _answering(lambda _: number(1, 1))
        if service == "plugin.GRPCController" and method == "Shutdown":
            return _answering(self.shut_down)
        return None  # unimplemented: what is not asked for a plan

    def get_schema(self, _: bytes) -> bytes:
        out = blob(1, schema_message(self._schemas["provider"]))
        for field, kind in ((2, "resource"), (3, "data"), (8, "ephemeral")):
            for name, schema in self._schemas[kind].items():
                out += blob(field, blob(1, name) + blob(2, schema_message(schema)))
        return out

    def plan(self, message: bytes) -> bytes:
        request = fields(message)
        proposed = unpacked(request[3])
        if proposed is not None and unpacked(request[2]) is None:
            schema = self._schemas["resource"][request[1].decode()]
            proposed = filled(schema, proposed, made_up if self._is_known else lambda _: UNKNOWN)
        # 5: what real providers of this kind say too, that small differences are none.
        return blob(1, packed(proposed)) + number(5, 1)

    def read(self, message: bytes) -> bytes:
        request = fields(message)
        schema = self._schemas["data"][request[1].decode()]
        return blob(1, packed(filled(schema, unpacked(request[2]), made_up)))

    def open(self, message: bytes) -> bytes:
        request = fields(message)
        schema = self._schemas["ephemeral"][request[1].decode()]
        return blob(3, packed(filled(schema, unpacked(request[2]), made_up)))

    def shut_down(self, _: bytes) -> bytes:
        self._stop.set()
        return b""


def _answering(call: Callable[[bytes], bytes]) -> grpc.RpcMethodHandler[bytes, bytes]:
    return grpc.unary_unary_rpc_method_handler(lambda request, _: call(request))


def main() -> None:
    cookie, value = MAGIC_COOKIE
    if os.environ.get(cookie) != value:  # noqa: TID251 -- no part of settler
        sys.exit("this is started by Terraform (deploy/lint.sh)")
    stop = threading.Event()
    server = grpc.server(ThreadPoolExecutor(max_workers=8))
    schemas = json.loads(Path(sys.argv[1]).read_text())
    is_known = os.environ.get(KNOWN) == "1"  # noqa: TID251 -- no part of settler
    server.add_generic_rpc_handlers((Provider(schemas, stop, is_known=is_known),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    sys.stdout.write(f"1|6|tcp|127.0.0.1:{port}|grpc\n")
    sys.stdout.flush()
    while not stop.wait(1.0):
        if os.getppid() == 1:  # Terraform is gone without a word
            break
    server.stop(0.5).wait()


if __name__ == "__main__":
    main()
