"""The finder of personal data on labelled rows, on made-up values and on look-alikes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data import pii
from data.pii import Span, find, replace


def test_recall_and_precision_on_the_labelled_rows() -> None:
    figures = pii.evaluate()
    for kind, (count, recall, precision) in figures.items():
        assert count >= 9 and recall >= 0.95 and precision >= 0.95, kind
    assert set(figures) == {"EMAIL", "PHONE", "IP", "CARD", "IBAN", "SSN"}


def test_keys_are_found_whole() -> None:
    for row in pii.planted_keys(100):
        assert find(row["text"]) == [Span(**row["spans"][0])], row["text"]


@pytest.mark.parametrize(
    ("text", "after"),
    [
        ("write to jane.doe+x@mail.example.co.uk.", "write to <EMAIL>."),
        ("Call +44 20 7946 0958 or (555) 123-4567 x89!", "Call <PHONE> or <PHONE>!"),
        ("from 93.184.216.34 port 80", "from <IP> port 80"),
        ("2606:2800:220:1:248:1893:25c8:1946 replied", "<IP> replied"),
        ("card 4111 1111 1111 1111, please", "card <CARD>, please"),
        ("IBAN DE89 3704 0044 0532 0130 00 it is", "IBAN <IBAN> it is"),
        ("SSN 078-05-1120", "SSN <SSN>"),
        ("Telefon:\n06 12 34 56 78", "Telefon:\n<PHONE>"),
        ('password = "hunter2hunter2"', 'password = "<KEY>"'),
    ],
)
def test_replaced(text: str, after: str) -> None:
    assert replace(text)[0] == after


@pytest.mark.parametrize(
    "text",
    [
        "version 10.4.22.1 came out", "the range 192.168.0.1", "4111 1111 1111 1112",
        "DE89 3704 0044 0532 0130 01", "pi is 3.14159265358979", "in 1914-1918 and 2014-07-01",
        "ISBN 978-3-16-148410-0", "a == b @ c", "x[1::2], y[::3]", "std::vector<int>",
        "000-12-3456", "2021-03-04 12:30:45", "npm_config_cache", "sk-learn", "1,234,567,890",
        "<<c1::8, c2::8, c3::8, c4::8>>",
    ],
)  # fmt: skip
def test_look_alikes_stay(text: str) -> None:
    assert replace(text) == (text, {})


@given(st.text(max_size=200))
def test_any_text_is_left_alone_outside_the_spans(text: str) -> None:
    spans = find(text)
    assert all(a.end <= b.start for a, b in zip(spans, spans[1:], strict=False))
    assert all(0 <= s.start < s.end <= len(text) for s in spans)
    if not spans:
        assert replace(text)[0] == text


def test_luhn_and_iban_numbers() -> None:
    """Published examples: ISO 7812's and the IBAN registry's."""
    assert pii.luhn("79927398713") and not pii.luhn("79927398710")
    for code in ("GB82 WEST 1234 5698 7654 32", "FR1420041010050500013M02606"):
        assert pii.is_iban(code)


def test_types_can_be_chosen() -> None:
    text = "jane@example.org at 93.184.216.34"
    assert replace(text, ["IP"])[0] == "jane@example.org at <IP>"
