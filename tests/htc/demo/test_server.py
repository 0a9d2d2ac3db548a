"""Where a page listens."""

import socket

import pytest

from htc import InputError
from htc.demo.server import address_of, is_private, opened


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", " 127.0.0.1 "])
def test_a_free_port_of_this_machine(host):
    with opened(host, 0) as listening:
        port = listening.getsockname()[1]
        assert address_of(listening) == f"http://127.0.0.1:{port}/"
        assert is_private(listening)
        socket.create_connection(("127.0.0.1", port)).close()


def test_all_addresses_are_not_private():
    with opened("0.0.0.0", 0) as listening:
        assert not is_private(listening)
        assert address_of(listening) == f"http://localhost:{listening.getsockname()[1]}/"


@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_an_address_with_colons(host):
    try:
        listening = opened(host, 0)
    except InputError:
        pytest.skip("this machine has no IPv6")
    with listening:
        assert address_of(listening).startswith("http://[::1]:")
        assert is_private(listening)


@pytest.mark.parametrize(
    ("host", "port", "says"),
    [
        ("127.0.0.1", -1, "port must be from 0"),
        ("127.0.0.1", 65536, "port must be from 0"),
        ("", 0, "host is empty"),
        (" ", 0, "host is empty"),
        ("no such host", 0, "no such host"),
        ("a" * 300, 0, "no such host"),
        ("192.0.2.1", 0, "not an address of this machine"),
    ],
)
def test_what_cannot_be_listened_on_is_refused(host, port, says):
    with pytest.raises(InputError, match=says):
        opened(host, port)


def test_a_port_in_use_is_refused_and_free_afterwards():
    with opened("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        with pytest.raises(InputError, match=f"port {port} of 127.0.0.1 is in use; give another one, or port=0"):
            opened("127.0.0.1", port)
    opened("127.0.0.1", port).close()
