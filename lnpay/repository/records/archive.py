"""Which parts of an invoice are archived, how they are compressed, and the only code that reads them."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, Row, select

from lnpay.repository.schema.archive import invoice_archive
from lnpay.repository.schema.column_types import read_json_object
from lnpay.repository.sql import UNREADABLE_OPTION, UnreadableRows, read_rows, require

FIELDS = ("bolt11", "strike_invoice", "strike_quote")
"""The columns of `invoices` that are archived, each as the text that the database held."""

FORM = 1
"""A JSON object of texts by column, compressed by zlib with DICTIONARY. Another form takes the next number."""

DICTIONARY = (
    # An invoice is short, and most of it is the same in each. This must stay as it is: form 1 is read with it.
    rb'"},"description":null,"targetCurrency":"amountInSourceCurrency","conversionRate":{"amount":"100000.00",'
    rb'"sourceCurrency":"BTC","targetCurrency":"USD"}{\"receiveRequestId\":\"\",\"bolt11\":{\"'
    rb"PAID\",\"PENDING\",\"currency\":\"USDT\",\"currency\":\"USD\",\"currency\":\"EUR\"},\"conversionRate\":"
    rb"{\"amount\":\"0.00001000\",\"sourceCurrency\":\"BTC\",\"targetCurrency\":\"USD\"},\""
    rb'{"bolt11":"lnbc10u1p5'
    rb'","strike_invoice":"{\"invoiceId\":\"-4000-8000-\",\"amount\":{\"amount\":\"0.0000\",\"currency\":\"BTC\"},'
    rb"\"state\":\"UNPAID\",\"created\":\"2026-01-01T00:00:00.000+00:00\",\"correlationId\":\"order-"
    rb"\",\"description\":\"Order #\",\"issuerId\":\"-4000-8000-\",\"receiverId\":\"\"}"
    rb'","strike_quote":"{\"quoteId\":\"\",\"description\":\"\",\"lnInvoice\":\"lnbc\",\"onchainAddress\":null,'
    rb"\"expiration\":\"2026-01-01T00:00:00.000+00:00\",\"expirationInSec\":3600,"
    rb"\"sourceAmount\":{\"amount\":\"0.0000\",\"currency\":\"BTC\"},"
    rb"\"targetAmount\":{\"amount\":\"0.0000\",\"currency\":\"BTC\"}}"
    rb'"}'
)


def pack(texts: Mapping[str, str]) -> tuple[bytes, bytes]:
    """The body and the digest that an archive row holds for these texts."""
    plain = json.dumps(texts, ensure_ascii=False, separators=(",", ":")).encode()
    packer = zlib.compressobj(9, zdict=DICTIONARY)
    return packer.compress(plain) + packer.flush(), hashlib.sha256(plain).digest()


def unpack(form: int, body: bytes, digest: bytes) -> dict[str, str]:
    """The texts in an archive row. Raises ValueError or TypeError if the row is damaged."""
    if form != FORM:
        raise ValueError("an archive of an unknown form")
    unpacker = zlib.decompressobj(zdict=DICTIONARY)
    try:
        plain = unpacker.decompress(body) + unpacker.flush()
    except zlib.error as error:
        raise ValueError("the archive cannot be decompressed") from error
    if hashlib.sha256(plain).digest() != digest:
        raise ValueError("the archive differs from what was written")
    texts = json.loads(plain)
    if not isinstance(texts, dict) or set(texts) != set(FIELDS):
        raise TypeError("the archive holds something else")
    return {str(name): str(value) for name, value in texts.items()}


def read_archived(connection: Connection, invoice_ids: Iterable[int]) -> dict[int, dict[str, Any]]:
    """What is archived of these invoices, as fields of an `Issue`.

    What cannot be read, or is missing, is left out and reported as an unreadable row.
    """
    wanted = list(invoice_ids)
    if not wanted:
        return {}
    statement = select(invoice_archive).where(invoice_archive.c.invoice_id.in_(wanted))
    found = dict(read_rows(connection, invoice_archive, statement, _to_fields))
    unreadable: UnreadableRows | None = connection.get_execution_options().get(UNREADABLE_OPTION)
    for missing in set(wanted) - set(found):
        if unreadable is not None:
            unreadable.note(invoice_archive.name, missing)
    return found


def read_through(connection: Connection, newest: int) -> None:
    """Read the newest archive rows, to find unreadable ones."""
    statement = select(invoice_archive).order_by(invoice_archive.c.invoice_id.desc()).limit(newest)
    read_rows(connection, invoice_archive, statement, _to_fields)


def _to_fields(row: Row[Any]) -> tuple[int, dict[str, Any]]:
    return row.invoice_id, to_fields(unpack(row.form, row.body, row.digest))


def to_fields(texts: Mapping[str, str]) -> dict[str, Any]:
    """The fields of an `Issue` in these texts. Raises ValueError or TypeError."""
    require(texts["bolt11"].isascii() and texts["bolt11"].isalnum())
    objects = {name: read_json_object(texts[name]) for name in ("strike_invoice", "strike_quote")}
    return {"bolt11": texts["bolt11"], **objects}
