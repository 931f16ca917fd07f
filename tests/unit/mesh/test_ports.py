"""Ports that servers are given before they bind them."""

import socket

from mesh import ports


def test_free_ports_are_different_free_and_not_those_of_outgoing_connections() -> None:
    found = ports.free(20)
    assert len(set(found)) == 20
    with open("/proc/sys/net/ipv4/ip_local_port_range") as file:  # noqa: PTH123
        first_outgoing = int(file.read().split()[0])
    assert max(found) < max(first_outgoing, 32_001)
    for port in found:
        with socket.socket() as server:
            server.bind((ports.LOOPBACK, port))
