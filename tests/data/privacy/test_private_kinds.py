"""What is found in texts and what is not: one row for each kind, form and trap.

The numbers are made up or the ones that standards give as examples; the keys were never valid.
"""

import re

import pytest

from tfmodel.data.privacy import KINDS, PLACEHOLDERS, find_private, replace_private

TOKEN = f"eyJ{'hb1' * 9}.eyJ{'zd2' * 9}.{'s_-' * 9}"
FOUND = [
    ("email", "Mail ann.o'neil+x@mail.example.co.uk.", "ann.o'neil+x@mail.example.co.uk"),
    ("email", "邮箱ann@example.com，谢谢", "ann@example.com"),
    ("email", "<a href='mailto:ann@example.com'>", "ann@example.com"),
    ("email", "ann [at] example [dot] com today", "ann [at] example [dot] com"),
    ("email", "ann(at)example.com", "ann(at)example.com"),
    ("email", "jürgen@exämple.de schrieb", "jürgen@exämple.de"),
    ("phone", "reach us on +1 650-253-0000.", "+1 650-253-0000"),
    ("phone", "(650) 253-0000 is the office's", "(650) 253-0000"),
    ("phone", "London: 020 7031 3000", "020 7031 3000"),
    ("phone", "+46 (0)8 928 571 38 fax", "+46 (0)8 928 571 38"),
    ("phone", "手机13812345678联系我", "13812345678"),
    ("phone", "电话：０１０－６２３３２５５０", "０１０－６２３３２５５０"),
    ("phone", "Phone: 467 3395", "467 3395"),
    ("phone", "win! Call 02071539996 now", "02071539996"),
    ("phone", "call free on 08000407165 (18+)", "08000407165"),
    ("phone", "Txt 0207 153 9996", "0207 153 9996"),
    ("phone", "call 6502530000", "6502530000"),
    ("phone", "650-253-0000 x123", "650-253-0000 x123"),
    ("phone", "on 2015-04-16 650-253-0000 rang", "650-253-0000"),
    ("card", "card 4111 1111 1111 1111 expires", "4111 1111 1111 1111"),
    ("card", "3782-822463-10005", "3782-822463-10005"),
    ("card", "6200000000000005", "6200000000000005"),
    ("card", "my card 501864667909", "501864667909"),
    ("iban", "to GB82 WEST 1234 5698 7654 32 please", "GB82 WEST 1234 5698 7654 32"),
    ("iban", "to de89370400440532013000.", "de89370400440532013000"),
    ("identity", "SSN 536-90-4399", "536-90-4399"),
    ("identity", "social security number: 536904399", "536904399"),
    ("identity", "NI no AB 12 34 56 C", "AB 12 34 56 C"),
    ("identity", "NHS number 943 476 5870", "943 476 5870"),
    ("identity", "身份证号11010519491231002X。", "11010519491231002X"),
    ("ip", "from 86.121.97.248, port", "86.121.97.248"),
    ("ip", "http://164.100.153.26/x", "164.100.153.26"),
    ("ip", "from 2001:db8::8a2e:370:7334.", "2001:db8::8a2e:370:7334"),
    ("ip", "6e40:4041:c617:e898:c11:40d2:c669:2eb4", "6e40:4041:c617:e898:c11:40d2:c669:2eb4"),
    ("ip", "at fe80::1%eth0", "fe80::1"),
    ("secret", "key AKIAIOSFODNN7EXAMPLE", "AKIAIOSFODNN7EXAMPLE"),
    ("secret", f"export T=ghp_{'a1B2' * 9}", f"ghp_{'a1B2' * 9}"),
    ("secret", "xoxb-123456789012-abcdefABCDEF", "xoxb-123456789012-abcdefABCDEF"),
    ("secret", f"AIza{'b2C' * 11}dd", f"AIza{'b2C' * 11}dd"),
    ("secret", f"a {TOKEN}, b", TOKEN),
    ("secret", "git clone https://ann:s3cr3t!@example.com/x", "ann:s3cr3t!"),
    ("secret", 'API_KEY = "q8Zr2kLm90XvBt4W"', "q8Zr2kLm90XvBt4W"),
    ("secret", "the password is Tr0ub4dor&3!", "Tr0ub4dor&3!"),
    ("secret", "密码：ab12cd34ef", "ab12cd34ef"),
    ("secret", "密码是abc12345。", "abc12345"),
    ("secret", f"of letters alone: hf_{'aBcdEfgH' * 4}xy", f"hf_{'aBcdEfgH' * 4}xy"),
    ("secret", "curl -H 'Bearer abcdef1234567890abcdef'", "abcdef1234567890abcdef"),
    ("secret", "Authorization: Basic dXNlcjpwYXNzd29yZA==", "dXNlcjpwYXNzd29yZA=="),
    ("secret", "password: correct-horse-battery9", "correct-horse-battery9"),
    ("card", "card 4111.1111.1111.1111", "4111.1111.1111.1111"),
    ("phone", "My phone number is 6502530000.", "6502530000"),
    ("phone", "cell: 2530000", "2530000"),
]  # fmt: skip
LEFT = [
    "@ann wrote a@b and 5 @ 3.50, foo@bar",
    "In 1990-1995, on 2015-04-16 11:34:35, 12/10/2020 and pages 1023-1027",
    "1 234 567 people, 1,234,567,890 dollars, $ 6502530000, 3.14159265358979",
    "ISBN 978-0-306-40615-7, DOI 10.1000/182, PMID 12345678",
    "order 4111111111111112 and 1234 5678 9012 3456",  # wrong check digits
    "GB82 WEST 1234 5698 7654 33 and AB12CDEF",
    "000-12-3456 and 110105194912310021",  # never given out; wrong check digit
    "6502530000 alone, group 034 (0341-0346)",
    "536904399 without its name, 9434765870 too",
    "version 10.11.12.13, section 1.2.3.4, 127.0.0.1, 999.1.1.1, 1.22.333.44.55",
    "std::vector<a::b>, 11:34:35, ratio 1:2:3, ::1",
    "The secret: understanding. Token: value2. password: ********",
    "-----BEGIN PUBLIC KEY-----",
    "电话会议在2015年举行，共12345678人参加",
    "slashing .300/.383/.428 for the Mobile BayBears, slashing .300/.383/.428",
    "密码：2018年最常用的二十五个弱密码包括很多简单的数字组合而且用户从来不改",
    "Twister 使用的椭圆曲线密码是 secp256k1，与NSA常用的sec256r1不同。",
    "token：第3代令牌用于访问控制系统的各种接口",
    "Her secret is 100-percent natural. The token is ERC-20-compatible and OAuth2-based.",
    "credentials: ISO27001-certified. The secret is 2nd-chance-thinking.",
    "token = self.tokenizer.encode2(text); tokens: (max_length=128,batch_size=64)",
    "Tel Aviv has 1 200 000 people and 25000000 shekels.",
    "Mobile, Alabama 36601-1234",
    "The phone sold 12000000 units; the iPhone 6124000 in 2001.",
    "In cell 1234567 of the table",
    "810035293712284965",  # of a place that no table names
    "",
]
BLOCK = "-----BEGIN RSA PRIVATE KEY-----\n" + "MIIEowIBAAKCAQEA1c7" * 3 + "\n" + "x8Q" * 20 + "\n"


@pytest.mark.parametrize("kind, text, private", FOUND)
def test_found(kind, text, private):
    (finding,) = find_private(text)
    assert (finding.kind, text[finding.start : finding.end]) == (kind, private)


@pytest.mark.parametrize("text", LEFT)
def test_left(text):
    assert find_private(text) == []


def test_two_phones_with_a_slash_between_them():
    assert replace_private("at 650-253-0000/650-253-0001.")[0] == "at PRIVATEPHONE/PRIVATEPHONE."
    assert find_private("votes 2003000/2004000 and 12345678/12345679") == []


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_rows_and_a_switch_and_a_placeholder_that_stays(kind):
    rows = [text for name, text, _ in FOUND if name == kind]
    assert len(rows) >= 2
    for text in rows:
        replaced, counts = replace_private(text, [kind])
        assert counts == {kind: 1}
        assert PLACEHOLDERS[kind] in replaced
        assert kind not in {finding.kind for finding in find_private(text, {*KINDS} - {kind})}


def test_a_private_key_block_goes_whole_and_one_without_an_end_by_its_lines():
    whole = f"a\n{BLOCK}-----END RSA PRIVATE KEY-----\nb"
    assert replace_private(whole)[0] == "a\nPRIVATESECRET\nb"
    assert replace_private(f"a\n{BLOCK}and so on")[0] == "a\nPRIVATESECRET\nand so on"


@pytest.mark.parametrize(
    "region, text",
    [
        ("DE", "Steuer-ID: 36 574 261 809"),
        ("FR", "née 2 95 10 99 126 111 93"),
        ("ES", "DNI 54362315-K"),
        ("ES", "NIE X-5253868-R"),
        ("IT", "c.f. RCCMNL83S18D969H"),
        ("NL", "BSN 111222333"),
        ("BR", "CPF 390.533.447-05"),
        ("IN", "Aadhaar 2341 2341 2346"),
        ("KR", "971013-9019902"),
        ("PL", "PESEL 44051401359"),
        ("SE", "880320-0016"),
        ("FI", "131052-308T"),
        ("CA", "SIN 123 456 782"),
        ("AU", "TFN 123 456 782"),
    ],
)
def test_identity_numbers_of_other_countries_when_they_are_named(region, text):
    assert [f.kind for f in find_private(text, ["identity"], regions=[region])] == ["identity"]
    assert find_private(text, ["identity"]) == []
    wrong = re.sub(r"[0-9](?=[^0-9]*\Z)", lambda last: str((int(last[0]) + 1) % 10), text)
    assert find_private(wrong, ["identity"], regions=[region]) == []


def test_phones_of_other_countries_when_they_are_named():
    text = "01.84.17.61.18"
    assert find_private(text) == []
    assert [f.kind for f in find_private(text, regions=["FR"])] == ["phone"]
    # A house number after a postal code is none, though the plan of some country has it.
    assert find_private("lives at 17151 2450 Crown Street", regions=["DE", "AT"]) == []
