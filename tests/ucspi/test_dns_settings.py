"""Which caches are asked, and what a short name becomes, follow djb's rules; no input is fatal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ucspi import dns_settings

RESOLV_CONF = """\
# a comment
search\ta.test b.test
nameserver 192.0.2.1
nameserver\t 192.0.2.2 trailing
 nameserver 192.0.2.3
nameserver 2001:db8::1
nameserver fe80::1%eth0
nameserver rubbish
"""


@pytest.mark.parametrize(
    ("value", "servers"),
    [
        ("1.2.3.4", [("1.2.3.4", 53)]),
        ("1.2.3.4.5.6.7.8", [("1.2.3.4", 53), ("5.6.7.8", 53)]),
        (
            "1.2.3.4, 5.6.7.8:5353 [::1]:54 ::2",
            [("1.2.3.4", 53), ("5.6.7.8", 5353), ("::1", 54), ("::2", 53)],
        ),
        ("[127.0.0.1]:99", [("127.0.0.1", 99)]),
    ],
)
def test_dnscacheip_names_the_servers(value: str, servers: list[tuple[str, int]]) -> None:
    assert dns_settings.cache_servers(value, RESOLV_CONF) == tuple(servers)


@pytest.mark.parametrize("value", [None, "", "rubbish", "1.2.3.4:port"[8:]])
def test_without_dnscacheip_resolv_conf_does(value: str | None) -> None:
    expected = (("192.0.2.1", 53), ("192.0.2.2", 53), ("2001:db8::1", 53), ("fe80::1%eth0", 53))
    assert dns_settings.cache_servers(value, RESOLV_CONF) == expected


def test_without_either_the_local_host_is_asked() -> None:
    assert dns_settings.cache_servers(None, "") == (("127.0.0.1", 53),)


def test_no_more_than_sixteen_servers_are_asked() -> None:
    assert len(dns_settings.cache_servers("1.2.3.4 " * 40, "")) == 16


@given(st.text(max_size=200), st.text(max_size=200))
def test_any_settings_give_servers(value: str, resolv_conf: str) -> None:
    assert 1 <= len(dns_settings.cache_servers(value, f"nameserver {resolv_conf}")) <= 16
    dns_settings.search_list(resolv_conf)


def test_the_first_search_or_domain_line_counts() -> None:
    assert dns_settings.search_list(RESOLV_CONF + "domain c.test\n") == ["a.test", "b.test"]
    assert dns_settings.search_list("domain c.test\nsearch d.test\n") == ["c.test"]
    assert dns_settings.search_list("nameserver 1.2.3.4\n") is None


@pytest.mark.parametrize(
    ("name", "rules", "full"),
    [
        ("host", dns_settings.rules_of_search(["a.test", "b.test"]), ["host.a.test", "host.b.test"]),
        ("host.", dns_settings.rules_of_search(["a.test"]), ["host"]),
        ("x.test", dns_settings.rules_of_search(["a.test"]), ["x.test"]),
        ("[1.2.3.4]", dns_settings.rules_of_search(["a.test"]), ["[1.2.3.4]"]),
        ("host", dns_settings.rules_of_host("me.a.test"), ["host.a.test"]),
        ("host", dns_settings.rules_of_host("me"), ["host"]),
        ("Host.A.Test", ["=host.a.test:new"], ["new"]),
        ("my.host.a.test", ["=host.a.test:new"], ["my.host.a.test"]),
        ("my.host.old", ["*.old:.new"], ["my.host.new"]),
        ("my.host.old", ["-.old:else.test"], ["else.test"]),
        ("a.b", ["# comment", "", "?:.x", "*b", "*.b:.c", "*.c:.d"], ["a.d"]),
        ("a+b+c", [], ["ab", "ac"]),
    ],
)
def test_rules_rewrite_a_name(name: str, rules: list[str], full: list[str]) -> None:
    assert dns_settings.candidates(name, rules) == full


def test_a_rewriting_file_is_one_rule_a_line() -> None:
    assert dns_settings.rules_of_file("=a:b \t\r\n*.:\n") == ("=a:b", "*.:", "")


@given(st.text("ab.+?*=-:[]", max_size=20), st.lists(st.text("ab.+?*=-:", max_size=8), max_size=5))
def test_any_rules_give_a_name(name: str, rules: list[str]) -> None:
    assert dns_settings.candidates(name, rules)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("1.2.3.4", ["1.2.3.4"]),
        ("[1.2.3.4]", ["1.2.3.4"]),
        ("1.2.3.4.5.6.7.8", ["1.2.3.4", "5.6.7.8"]),
        ("1.2.3", []),
        ("", []),
        ("1.2.3.260", ["1.2.3.4"]),
        ("1.2.3.4a", None),
        ("::1", None),
    ],
)
def test_digits_and_dots_are_addresses(name: str, found: list[str] | None) -> None:
    literals = dns_settings.literal_addresses(name)
    texts = None if literals is None else [".".join(map(str, address)) for address in literals]
    assert texts == found
