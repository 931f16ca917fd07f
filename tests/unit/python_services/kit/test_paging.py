"""Page tokens."""

from __future__ import annotations

import base64

import pytest

from python_services.kit.errors import ServiceError
from python_services.kit.paging import DEFAULT_PAGE, page


def test_pages_cover_everything_once() -> None:
    items, token = [], ""
    while True:
        part, token = page(range(25), 7, token, scope="ListX/abc")
        items += part
        if not token:
            break
    assert items == list(range(25))
    assert page(range(25), 0, "", scope="x") == (range(25), "")
    assert len(page(range(10_000), 0, "", scope="x")[0]) == DEFAULT_PAGE


@pytest.mark.parametrize("token", ["x", "!!", "AAAA", "é", base64.urlsafe_b64encode(bytes(20)).decode(), "a" * 256])
def test_made_up_tokens_are_refused(token: str) -> None:
    with pytest.raises(ServiceError, match="page_token"):
        page(range(25), 7, token, scope="ListX/abc")


def test_a_token_is_good_for_its_own_list_only() -> None:
    _, token = page(range(25), 7, "", scope="ListX/abc")
    with pytest.raises(ServiceError, match="page_token"):
        page(range(25), 7, token, scope="ListX/other")
