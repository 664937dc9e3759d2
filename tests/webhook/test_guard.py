from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from settler.domain.errors import InvalidInput
from settler.webhook.guard import check_url, refusal

DENIED = [
    "0.0.0.0",
    "10.1.2.3",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",
    "192.168.1.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::808:808",
    "100::1",
    "2001:0:1::1",
    "2001:db8::1",
    "2002:7f00:1::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
]
NAT64 = IPv6Network("64:ff9b::/96")
ALLOWED = [
    "1.1.1.1",
    "8.8.8.8",
    "100.63.255.255",
    "172.32.0.1",
    "2606:4700::1111",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
]


@pytest.mark.parametrize("address", DENIED)
def test_refusal__not_of_the_internet__is_refused(address: str) -> None:
    assert refusal(address)


@pytest.mark.parametrize("address", ALLOWED)
def test_refusal__of_the_internet__is_allowed(address: str) -> None:
    assert refusal(address) is None


@given(st.ip_addresses())
def test_refusal__whatever_python_calls_not_global__is_refused(ip: IPv4Address | IPv6Address) -> None:
    embedded = isinstance(ip, IPv6Address) and (ip.ipv4_mapped is not None or ip in NAT64)
    if not embedded and (not ip.is_global or ip.is_multicast or ip.is_reserved or ip.is_unspecified):
        assert refusal(str(ip))


@given(st.ip_addresses(v=4))
def test_refusal__wrapped_in_ipv6__is_as_the_address_inside(ip: IPv4Address) -> None:
    for prefix in ("::ffff:0:0", "64:ff9b::"):
        wrapped = IPv6Address(int(ip_address(prefix)) + int(ip))
        assert refusal(str(wrapped)) == refusal(str(ip))


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/hook",
        "http://example.com:8080/?a=b",
        "https://[2606:4700::1111]/",
        "https://xn--bcher-kva.example/",
    ],
)
def test_check_url__good__is_answered_unchanged(url: str) -> None:
    assert check_url(url, allow_private=False) == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com",
        "//example.com",
        "ftp://example.com",
        "file:///etc/passwd",
        "https://",
        "https:///path",
        "https://user@example.com",
        "https://user:pass@example.com",
        "https://:@example.com",
        "https://example.com:0",
        "https://example.com:99999",
        "https://example.com:x",
        "https://[::1",
        "https://example.com/#a",
        "https://example.com/a b",
        "https://example.com/\r\nx: y",
        "https://example.com\\@127.0.0.1/",
        "https://bücher.example/",
        "https://example.com/" + "a" * 3000,
    ],
)
@pytest.mark.parametrize("allow_private", [True, False])
def test_check_url__bad__is_refused(url: str, allow_private: bool) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_url(url, allow_private=allow_private)
    assert caught.value.field == "url"
    assert "pass@" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://localhost:80/",
        "http://a.localhost./",
        "http://[::1]:8080/",
        "http://169.254.169.254/latest",
    ],
)
def test_check_url__private__only_where_allowed(url: str) -> None:
    assert check_url(url, allow_private=True) == url
    with pytest.raises(InvalidInput, match="allow_private_addresses"):
        check_url(url, allow_private=False)
