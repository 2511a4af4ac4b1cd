"""Reading payment requests: the specification's examples, an independent reader, and damage."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lnpay.domain.bolt11 import (
    MAX_CHARACTERS,
    Bolt11Error,
    PaymentRequest,
    decode,
)

# The examples of BOLT #11, https://github.com/lightning/bolts (CC BY 4.0).
HASH = "0001020304050607080900010203040506070809000102030405060708090102"
THINGS_HASH = hashlib.sha256(
    b"One piece of chocolate cake, one icecream cone, one pickle, one slice of swiss cheese, one slice of salami, "
    b"one lollypop, one piece of cherry pie, one sausage, one cupcake, and one slice of watermelon"
).hexdigest()
CREATED_AT = datetime.fromtimestamp(1496314658, UTC)
MSATS_PER_MILLI_BTC = 100_000_000

DONATION = (
    "lnbc1pvjluezpp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdpl2pkx2ctnv5sxxmmwwd5kgetjypeh2ursdae8g6twv"
    "us8g6rfwvs8qun0dfjkxaq8rkx3yf5tcsyz3d73gafnh3cax9rn449d9p5uxz9ezhhypd0elx87sjle52x86fux2ypatgddc6k63n7erqz25le42"
    "c4u4ecky03ylcqca784w"
)
COFFEE = (
    "lnbc2500u1pvjluezpp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdq5xysxxatsyp3k7enxv4jsxqzpuaztrnwngzn3"
    "kdzw5hydlzf03qdgm2hdq27cqv3agm2awhz5se903vruatfhq77w3ls4evs3ch9zw97j25emudupq63nyw24cg27h2rspfj9srp"
)
NONSENSE = (
    "lnbc2500u1pvjluezpp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdpquwpc4curk03c9wlrswe78q4eyqc7d8d0xqzp"
    "uyk0sg5g70me25alkluzd2x62aysf2pyy8edtjeevuv4p2d5p76r4zkmneet7uvyakky2zr4cusd45tftc9c5fh0nnqpnl2jfll544esqchsrny"
)
THINGS = (
    "lnbc20m1pvjluezpp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqhp58yjmdan79s6qqdhdzgynm4zwqd5d7xmw5fk98k"
    "lysy043l2ahrqscc6gd6ql3jrc5yzme8v4ntcewwz5cnw92tz0pc8qcuufvq7khhr8wpald05e92xw006sq94mg8v2ndf4sefvf9sygkshp5zfe"
    "m29trqq2yxxz7"
)
THINGS_TESTNET = (
    "lntb20m1pvjluezhp58yjmdan79s6qqdhdzgynm4zwqd5d7xmw5fk98klysy043l2ahrqspp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyq"
    "cyq5rqwzqfqypqfpp3x9et2e20v6pu37c5d9vax37wxq72un98kmzzhznpurw9sgl2v0nklu2g4d0keph5t7tj9tcqd8rexnd07ux4uv2cjvcqw"
    "axgj7v4uwn5wmypjd5n69z2xm3xgksg28nwht7f6zspwp3f9t"
)
THINGS_ROUTED = (
    "lnbc20m1pvjluezpp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqhp58yjmdan79s6qqdhdzgynm4zwqd5d7xmw5fk98k"
    "lysy043l2ahrqsfpp3qjmp7lwpagxun9pygexvgpjdc4jdj85fr9yq20q82gphp2nflc7jtzrcazrra7wwgzxqc8u7754cdlpfrmccae92qgzqv"
    "zq2ps8pqqqqqqpqqqqq9qqqvpeuqafqxu92d8lr6fvg0r5gv0heeeqgcrqlnm6jhphu9y00rrhy4grqszsvpcgpy9qqqqqqgqqqqq7qqzqj9n4e"
    "vl6mr5aj9f58zp6fyjzup6ywn3x6sk8akg5v4tgn2q8g4fhx05wf6juaxu9760yp46454gpg5mtzgerlzezqcqvjnhjh8z3g2qqdhhwkj"
)
THINGS_P2SH = (
    "lnbc20m1pvjluezhp58yjmdan79s6qqdhdzgynm4zwqd5d7xmw5fk98klysy043l2ahrqspp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyq"
    "cyq5rqwzqfqypqfppj3a24vwu6r8ejrss3axul8rxldph2q7z9kmrgvr7xlaqm47apw3d48zm203kzcq357a4ls9al2ea73r8jcceyjtya6fu5w"
    "zzpe50zrge6ulk4nvjcpxlekvmxl6qcs9j3tz0469gq5g658y"
)
THINGS_P2WPKH = (
    "lnbc20m1pvjluezhp58yjmdan79s6qqdhdzgynm4zwqd5d7xmw5fk98klysy043l2ahrqspp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyq"
    "cyq5rqwzqfqypqfppqw508d6qejxtdg4y5r3zarvary0c5xw7kepvrhrm9s57hejg0p662ur5j5cr03890fa7k2pypgttmh4897d3raaq85a293"
    "e9jpuqwl0rnfuwzam7yr8e690nd2ypcq9hlkdwdvycqa0qza8"
)
THINGS_P2WSH = (
    "lnbc20m1pvjluezhp58yjmdan79s6qqdhdzgynm4zwqd5d7xmw5fk98klysy043l2ahrqspp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyq"
    "cyq5rqwzqfqypqfp4qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3q28j0v3rwgy9pvjnd48ee2pl8xrpxysd5g44td63g6"
    "xcjcu003j3qe8878hluqlvl3km8rm92f5stamd3jw763n3hck0ct7p8wwj463cql26ava"
)
PICO = (
    "lnbc9678785340p1pwmna7lpp5gc3xfm08u9qy06djf8dfflhugl6p7lgza6dsjxq454gxhj9t7a0sd8dgfkx7cmtwd68yetpd5s9xar0wfjn5g"
    "pc8qhrsdfq24f5ggrxdaezqsnvda3kkum5wfjkzmfqf3jkgem9wgsyuctwdus9xgrcyqcjcgpzgfskx6eqf9hzqnteypzxz7fzypfhg6trddjhyg"
    "rcyqezcgpzfysywmm5ypxxjemgw3hxjmn8yptk7untd9hxwg3q2d6xjcmtv4ezq7pqxgsxzmnyyqcjqmt0wfjjq6t5v4khxxqyjw5qcqp2rzjq0"
    "gxwkzc8w6323m55m4jyxcjwmy7stt9hwkwe2qxmy8zpsgg7jcuwz87fcqqeuqqqyqqqqlgqqqqn3qq9qn07ytgrxxzad9hc4xt3mawjjt8znfv8"
    "xzscs7007v9gh9j569lencxa8xeujzkxs0uamak9aln6ez02uunw6rd2ht2sqe4hz8thcdagpleym0j"
)
BEANS = (
    "lnbc25m1pvjluezpp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdq5vdhkven9v5sxyetpdeessp5zyg3zyg3zyg3zyg"
    "3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygs9q5sqqqqqqqqqqqqqqqpqsq67gye39hfg3zd8rgc80k32tvy9xk2xunwm5lzexnvpx6fd77en8"
    "qaq424dxgt56cag2dpt359k3ssyhetktkpqh24jqnjyw6uqd08sgptq44qu"
)
BEANS_WITH_IGNORED_FIELDS = (
    "lnbc25m1pvjluezpp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdq5vdhkven9v5sxyetpdeessp5zyg3zyg3zyg3zyg"
    "3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygs9q5sqqqqqqqqqqqqqqqpqsq2qrqqqfppn"
    + "q" * 32
    + "ppn"
    + "q" * 51
    + "pp4"
    + "q" * 53
    + "hpn"
    + "q" * 51
    + "hp4"
    + "q" * 53
    + "spn"
    + "q" * 51
    + "sp4"
    + "q" * 53
    + "np5"
    + "q" * 52
    + "npk"
    + "q" * 54
    + "2jxxfsnucm4jf4zwtznpaxphce606fvhvje5x7d4gw7n73994hgs7nteqvenq8a4ml8aqtchv5d9pf7l558889hp4yyrqv6a7z"
    "pq9fgpskqhza"
)
UNKNOWN_EVEN_FEATURE = (
    "lnbc25m1pvjluezpp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdq5vdhkven9v5sxyetpdeessp5zyg3zyg3zyg3zyg"
    "3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygs9q4psqqqqqqqqqqqqqqqpqsqq40wa3khl49yue3zsgm26jrepqr2eghqlx86rttutve3ugd05e"
    "m86nsefzh4pfurpd9ek9w2vp95zxqnfe2u7ckudyahsa52q66tgzcp6t2dyk"
)
UNRECOVERABLE_SIGNATURE = (
    "lnbc2500u1pvjluezpp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdq5xysxxatsyp3k7enxv4jsxqzpuaxtrnwngzn3"
    "kdzw5hydlzf03qdgm2hdq27cqv3agm2awhz5se903vruatfhq77w3ls4evs3ch9zw97j25emudupq63nyw24cg27h2rspk28uwq"
)
TOO_SHORT = (
    "lnbc1pvjluezpp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdpl2pkx2ctnv5sxxmmwwd5kgetjypeh2ursdae8g6na6hlh"
)
INVALID_MULTIPLIER = (
    "lnbc2500x1pvjluezpp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdq5xysxxatsyp3k7enxv4jsxqzpujr6jxr9gq9p"
    "v6g46y7d20jfkegkg4gljz2ea2a3m9lmvvr95tq2s0kvu70u3axgelz3kyvtp2ywwt0y8hkx2869zq5dll9nelr83zzqqpgl2zg"
)
FINER_THAN_A_MILLISAT = (
    "lnbc2500000001p1pvjluezpp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdq5xysxxatsyp3k7enxv4jsxqzpu7hqtk"
    "93pkf7sw55rdv4k9z2vj050rxdr6za9ekfs3nlt5lr89jqpdmxsmlj9urqumg0h9wzpqecw7th56tdms40p2ny9q4ddvjsedzcplva53s"
)

THE_DONATION = PaymentRequest("bc", None, CREATED_AT, 3600, HASH, "Please consider supporting this project", None)
THE_COFFEE = PaymentRequest("bc", 250_000_000, CREATED_AT, 60, HASH, "1 cup coffee", None)
THE_THINGS = PaymentRequest("bc", 20 * MSATS_PER_MILLI_BTC, CREATED_AT, 3600, HASH, None, THINGS_HASH)
THE_BEANS = PaymentRequest("bc", 25 * MSATS_PER_MILLI_BTC, CREATED_AT, 3600, HASH, "coffee beans", None)
THE_LEDGER = PaymentRequest(
    "bc",
    967_878_534,
    datetime.fromtimestamp(1572468703, UTC),
    604_800,
    "462264ede7e14047e9b249da94fefc47f41f7d02ee9b091815a5506bc8abf75f",
    'Blockstream Store: 88.85 USD for Blockstream Ledger Nano S x 1, "Back In My Day" Sticker x 2, '
    '"I Got Lightning Working" Sticker x 2 and 1 more items',
    None,
)

VALID = [
    (DONATION, THE_DONATION),
    (COFFEE, THE_COFFEE),
    (NONSENSE, replace(THE_COFFEE, description="ナンセンス 1杯")),
    (THINGS, THE_THINGS),
    (THINGS_TESTNET, replace(THE_THINGS, network="tb")),
    (THINGS_ROUTED, THE_THINGS),
    (THINGS_P2SH, THE_THINGS),
    (THINGS_P2WPKH, THE_THINGS),
    (THINGS_P2WSH, THE_THINGS),
    (PICO, THE_LEDGER),
    (BEANS, THE_BEANS),
    (BEANS.upper(), THE_BEANS),
    (BEANS_WITH_IGNORED_FIELDS, THE_BEANS),
]

CHARSET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"


def encode(prefix: str, data: str) -> str:
    """`data` in bech32 with its checksum, written as BIP 173 has it rather than as the reader has it."""
    generators = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
    expanded = [ord(c) >> 5 for c in prefix] + [0] + [ord(c) & 31 for c in prefix]
    check = 1
    for value in expanded + [CHARSET.index(c) for c in data] + [0] * 6:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for i, generator in enumerate(generators):
            check ^= generator if top >> i & 1 else 0
    check ^= 1
    return f"{prefix}1{data}" + "".join(CHARSET[check >> 5 * (5 - i) & 31] for i in range(6))


def to_words(value: int, length: int) -> str:
    return "".join(CHARSET[value >> 5 * i & 31] for i in reversed(range(length)))


def field(kind: str, payload: str) -> str:
    return kind + to_words(len(payload), 2) + payload


TIME = to_words(1496314658, 7)
HASH_FIELD = field("p", to_words(int(HASH, 16) << 4, 52))
SIGNATURE = "q" * 104


def request_with(*fields: str, prefix: str = "lnbc") -> str:
    return encode(prefix, TIME + HASH_FIELD + "".join(fields) + SIGNATURE)


class TestSpecification:
    @pytest.mark.parametrize(("text", "expected"), VALID)
    def test_its_examples_are_read(self, text: str, expected: PaymentRequest) -> None:
        assert decode(text) == expected

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            (NONSENSE[:-1] + "t", "checksum"),
            (NONSENSE.removeprefix("lnbc2500u1"), "separator"),
            ("LNBC2500u1" + NONSENSE.removeprefix("lnbc2500u1"), "mixed"),
            (TOO_SHORT, "too short"),
            (INVALID_MULTIPLIER, "amount is not"),
            (FINER_THAN_A_MILLISAT, "finer than a millisat"),
        ],
    )
    def test_its_invalid_examples_are_refused(self, text: str, why: str) -> None:
        with pytest.raises(Bolt11Error, match=why):
            decode(text)

    def test_what_only_a_payer_must_refuse_is_read(self) -> None:
        """Its two other invalid examples: signature and feature bits say nothing about what is asked."""
        assert decode(UNRECOVERABLE_SIGNATURE) == THE_COFFEE
        assert decode(UNKNOWN_EVEN_FEATURE) == THE_BEANS


class TestScheme:
    @pytest.mark.parametrize("scheme", ["lightning:", "LIGHTNING:", "Lightning:"])
    @pytest.mark.parametrize("text", [COFFEE, COFFEE.upper()])
    def test_it_is_stripped_in_any_case(self, scheme: str, text: str) -> None:
        assert decode(scheme + text) == THE_COFFEE

    @pytest.mark.parametrize("scheme", ["bitcoin:", "lightning://", "lightning:lightning:", " "])
    def test_another_one_is_refused(self, scheme: str) -> None:
        with pytest.raises(Bolt11Error):
            decode(scheme + COFFEE)


class TestAmount:
    @pytest.mark.parametrize(
        ("amount", "msats"),
        [
            ("", None),
            ("1", 100_000_000_000),
            ("1m", 100_000_000),
            ("1u", 100_000),
            ("1n", 100),
            ("10p", 1),
            ("516360n", 51_636_000),
            ("21000000", 2_100_000_000_000_000_000),
            ("21000000000000000000p", 2_100_000_000_000_000_000),
        ],
    )
    def test_it_is_exact(self, amount: str, msats: int | None) -> None:
        assert decode(request_with(prefix=f"lnbc{amount}")).amount_msats == msats

    @pytest.mark.parametrize(
        "amount",
        [
            *(
                "0",
                "0u",
                "01u",
                "-1u",
                "1.5m",
                "1,5m",
                "u",
                "m1",
                "1mm",
                "1x",
                "1 u",
                " 1u",
                "1u ",
                "1u\n",
                "1p",
                "11p",
            ),
            *("21000001", "21000000000000000010p", "9" * 20, "9" * 21, "9" * 5000),
        ],
    )
    def test_an_amount_in_a_forbidden_form_is_refused(self, amount: str) -> None:
        with pytest.raises(Bolt11Error):
            decode(encode(f"lnbc{amount}", TIME + HASH_FIELD + SIGNATURE))


class TestPrefix:
    @pytest.mark.parametrize("network", ["bc", "tb", "tbs", "bcrt"])
    @pytest.mark.parametrize("amount", ["", "20m"])
    def test_a_bitcoin_network_is_named(self, network: str, amount: str) -> None:
        assert decode(request_with(prefix=f"ln{network}{amount}")).network == network

    @pytest.mark.parametrize("prefix", ["ln", "lnltc", "bc", "lnb", "lnsb20m", "xlnbc", "lno", "lnurl"])
    def test_another_one_is_refused(self, prefix: str) -> None:
        with pytest.raises(Bolt11Error):
            decode(request_with(prefix=prefix))

    def test_an_lnurl_is_refused(self) -> None:
        lnurl = (
            "LNURL1DP68GURN8GHJ7UM9WFMXJCM99E3K7MF0V9CXJ0M385EKVCENXC6R2C35XVUKXEFCV5MKVV34X5EKZD3EV56NYD3HXQURZEPEX"
        )

        with pytest.raises(Bolt11Error):
            decode(lnurl + "EJXXEPNXSCRVWFNV9NXZCN9XQ6XYEFHVGCXXCMYXYMNSERXFQ5FNS")

    def test_an_empty_one_is_refused(self) -> None:
        with pytest.raises(Bolt11Error, match="separator"):
            decode("1" + COFFEE.split("1", 1)[1])


class TestFields:
    def test_the_first_of_a_kind_counts(self) -> None:
        text = request_with(field("x", to_words(60, 2)), field("x", to_words(61, 2)))

        assert decode(text).expiry_seconds == 60

    def test_a_hash_of_another_length_is_skipped_and_a_later_good_one_counts(self) -> None:
        text = encode("lnbc", TIME + field("p", "p" * 51) + field("h", "p" * 53) + HASH_FIELD + SIGNATURE)

        assert decode(text).payment_hash == HASH
        assert decode(text).description_hash is None

    def test_a_description_may_be_empty_or_missing(self) -> None:
        assert decode(request_with(field("d", ""))).description == ""
        assert decode(request_with()).description is None

    @pytest.mark.parametrize(("payload", "seconds"), [("", 0), ("q", 0), ("p", 1), ("qqqpu", 60)])
    def test_an_expiry_may_have_any_length(self, payload: str, seconds: int) -> None:
        request = decode(request_with(field("x", payload)))

        assert request.expiry_seconds == seconds
        assert request.expires_at == CREATED_AT + timedelta(seconds=seconds)

    def test_without_an_expiry_it_is_an_hour(self) -> None:
        assert decode(DONATION).expires_at == CREATED_AT + timedelta(hours=1)

    def test_the_last_time_there_is_can_be_read(self) -> None:
        text = encode("lnbc", "l" * 7 + HASH_FIELD + SIGNATURE)

        assert decode(text).created_at == datetime.fromtimestamp(2**35 - 1, UTC)

    @pytest.mark.parametrize(
        ("fields", "why"),
        [
            (field("x", "l" * 8), "year 9999"),
            (field("x", "l" * 1023), "year 9999"),
            (field("d", "ll"), "UTF-8"),
            ("d", "ends after the data"),
            ("dq", "ends after the data"),
            ("dpp", "ends after the data"),
            ("dll" + "q" * 1022, "ends after the data"),
        ],
    )
    def test_one_that_cannot_be_read_is_refused(self, fields: str, why: str) -> None:
        with pytest.raises(Bolt11Error, match=why):
            decode(request_with(fields))

    def test_without_a_payment_hash_it_is_refused(self) -> None:
        with pytest.raises(Bolt11Error, match="no payment hash"):
            decode(encode("lnbc", TIME + SIGNATURE))


class TestDamage:
    @pytest.mark.untraced
    @given(st.text())
    def test_any_text_is_refused(self, text: str) -> None:
        with pytest.raises(Bolt11Error):
            decode(text)

    @pytest.mark.untraced
    @given(st.sampled_from([text for text, _ in VALID]), st.data())
    def test_a_changed_character_is_refused(self, text: str, data: st.DataObject) -> None:
        position = data.draw(st.integers(0, len(text) - 1))
        character = data.draw(st.characters())
        changed = text[:position] + character + text[position + 1 :]
        assume(changed != text)

        with pytest.raises(Bolt11Error):
            decode(changed)

    @pytest.mark.untraced
    @given(st.sampled_from([text for text, _ in VALID]), st.integers(0, 2000))
    def test_a_cut_end_is_refused(self, text: str, length: int) -> None:
        assume(length < len(text))

        with pytest.raises(Bolt11Error):
            decode(text[:length])

    @pytest.mark.untraced
    @settings(max_examples=500)
    @given(
        st.sampled_from(["", "1", "10p", "2500u", "lnbc", "0n"]),
        st.text(CHARSET, max_size=400),
    )
    def test_any_data_with_a_right_checksum_is_read_or_refused(self, amount: str, data: str) -> None:
        try:
            request = decode(encode(f"lnbc{amount}", data))
        except Bolt11Error:
            return
        assert request.expires_at >= request.created_at

    @pytest.mark.untraced
    @settings(max_examples=500)
    @given(st.lists(st.builds(field, st.sampled_from(CHARSET), st.text(CHARSET, max_size=60)), max_size=8))
    def test_any_fields_are_read_or_refused(self, fields: list[str]) -> None:
        try:
            request = decode(request_with(*fields))
        except Bolt11Error:
            return
        assert request.payment_hash == HASH

    @pytest.mark.parametrize("text", ["", "1", "lnbc1", "lnbc1qqqqq", COFFEE.replace("k", "\u212a"), "lnbc\x001qqqqqq"])
    def test_oddities_are_refused(self, text: str) -> None:
        with pytest.raises(Bolt11Error):
            decode(text)

    def test_a_very_long_text_is_refused_unread(self) -> None:
        with pytest.raises(Bolt11Error, match="longer than"):
            decode("lnbc1" + "q" * MAX_CHARACTERS)

    def test_a_refusal_does_not_repeat_the_text(self) -> None:
        with pytest.raises(Bolt11Error) as refusal:
            decode(COFFEE + "q")

        assert "pvjluez" not in str(refusal.value)


@pytest.fixture(scope="module")
def independent() -> Any:
    """The `bolt11` package, which some newer versions of Python cannot have."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("bolt11")


PRIVATE_KEY = "e126f68f7eafcc8b74f54d269fe206be715000f94dac067d1c04a8ca3b2db734"
hashes = st.binary(min_size=32, max_size=32).map(bytes.hex)
descriptions = st.text(max_size=200).filter(lambda text: len(text.encode()) <= 639)


def tags_of(package: Any, pairs: Iterable[tuple[str, Any]]) -> Any:
    tags = package.Tags()
    for name, value in pairs:
        if value is not None:
            tags.add(package.TagChar[name], value)
    return tags


class TestIndependentReader:
    @pytest.mark.parametrize(("text", "expected"), VALID)
    def test_it_reads_the_examples_alike(self, independent: Any, text: str, expected: PaymentRequest) -> None:
        other = independent.decode(text, ignore_exceptions=True)

        assert alike(decode(text), other)

    @pytest.mark.untraced
    @settings(deadline=None)
    @given(
        network=st.sampled_from(["bc", "tb", "tbs", "bcrt"]),
        # The package writes whole thousands of bitcoin wrongly, so amounts stay below.
        msats=st.none() | st.integers(1, 10**14 - 1) | st.integers(1, 10**9).map(lambda sats: sats * 1000),
        created=st.integers(0, 2**33),
        expiry=st.none() | st.integers(1, 2**32),
        payment_hash=hashes,
        text=descriptions | hashes.map(lambda value: {"hash": value}),
    )
    def test_what_it_writes_is_read(
        self,
        independent: Any,
        network: str,
        msats: int | None,
        created: int,
        expiry: int | None,
        payment_hash: str,
        text: str | dict[str, str],
    ) -> None:
        description, description_hash = (text, None) if isinstance(text, str) else (None, text["hash"])
        tags = tags_of(
            independent,
            [
                ("payment_hash", payment_hash),
                ("payment_secret", "11" * 32),
                ("description", description),
                ("description_hash", description_hash),
                ("expire_time", expiry),
                ("min_final_cltv_expiry", 18),
            ],
        )
        invoice = independent.Bolt11(network, created, tags, independent.MilliSatoshi(msats) if msats else None)

        written = independent.encode(invoice, PRIVATE_KEY, ignore_exceptions=True)

        assert decode(written) == PaymentRequest(
            network,
            msats,
            datetime.fromtimestamp(created, UTC),
            3600 if expiry is None else expiry,
            payment_hash,
            description,
            description_hash,
        )
        assert alike(decode(written), independent.decode(written, ignore_exceptions=True))


def alike(ours: PaymentRequest, theirs: Any) -> bool:
    return ours == PaymentRequest(
        theirs.currency,
        theirs.amount_msat,
        datetime.fromtimestamp(theirs.date, UTC),
        theirs.expiry or 3600,
        theirs.payment_hash,
        theirs.description,
        theirs.description_hash,
    )
