"""A way round an identity's own sidecar: straight to a callee's ingress, with whatever certificate one has.

gRPC's own TLS cannot be told to expect a SPIFFE id instead of a host name, so a tunnel does the TLS and gRPC speaks
through it in plaintext.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

from mesh.identity import Credentials

# What an HTTP/2 client says first: the preface and empty SETTINGS.
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
_SILENCE_S = 1.0


def stored(data_dir: Path, identity: str) -> Credentials:
    """What the sidecar of `identity` proves itself with."""
    path = data_dir / "mesh" / "identities" / f"{identity}.json"
    secret = json.loads(path.read_text())["resources"][0]["tls_certificate"]
    chain, key = (secret[name]["inline_string"] for name in ("certificate_chain", "private_key"))
    return Credentials(certificate=chain, key=key)


def ingress(data_dir: Path, service: str) -> Path:
    """Where the sidecar of `service` takes the calls of others."""
    bootstrap = json.loads((data_dir / "mesh" / "bootstrap" / f"{service}-envoy.json").read_text())
    (found,) = (one for one in bootstrap["static_resources"]["listeners"] if one["name"] == "ingress")
    return Path(found["address"]["pipe"]["path"])


def context(credentials: Credentials | None) -> ssl.SSLContext:
    """TLS that shows a certificate, or none. The server's is not checked: that is the subject of another test."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    made.set_alpn_protocols(["h2"])
    if credentials is not None:
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
            file.write(credentials.certificate + credentials.key)
            file.flush()
            made.load_cert_chain(file.name)
    return made


def connected(path: Path, limit_s: float) -> socket.socket:
    """A connection to a Unix socket."""
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(limit_s)
    made.connect(str(path))
    return made


def handshake(path: Path, tls: ssl.SSLContext) -> str:
    """What became of a connection: "" when it is open, else the error. In TLS 1.3 a refusal comes after connecting."""
    try:
        with connected(path, _SILENCE_S) as plain, tls.wrap_socket(plain) as open_:
            try:
                return "" if open_.recv(9) else "closed"
            except TimeoutError:  # it waits for the client to begin
                open_.settimeout(10)
                open_.sendall(PREFACE)
                return "" if open_.recv(9) else "closed"
    except (ssl.SSLError, ConnectionError) as error:
        return str(error).lower()


@asynccontextmanager
async def tunnel(folder: Path, far: Path, tls: ssl.SSLContext) -> AsyncIterator[Path]:
    """A Unix socket whose connections are carried to `far` over TLS."""
    tasks: set[asyncio.Task[None]] = set()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_unix_connection(far, ssl=tls, server_hostname="")
        try:
            await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
        finally:
            for end in (writer, far_writer):
                end.transport.abort()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(carry(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    path = folder / f"{far.name[:20]}-{id(tls) % 10_000}.sock"
    server = await asyncio.start_unix_server(accept, path)
    try:
        yield path
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # the transports close
        path.unlink(missing_ok=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()


def short_folder() -> Iterator[Path]:
    """For sockets: the kernel takes short paths only."""
    with tempfile.TemporaryDirectory(prefix="am-") as folder:
        yield Path(folder)
