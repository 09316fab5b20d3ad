"""The JSON reader against Python's: values, what is refused and where, every cut of a manifest, size and depth."""

from __future__ import annotations

import ctypes
import json
import locale
import math
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tiny_bundle import make_tiny_bundle

from .inside import INVALID_MODEL, NO_MEMORY, EngineError, at_page_end, json_engine, json_value

C = json_engine()
EXAMPLES = settings(max_examples=80, derandomize=True, database=None, deadline=None)
INT64 = range(-(1 << 63), 1 << 63)


def parse(text: bytes | str, blocks: int | None = None) -> Any:
    data = text.encode() if isinstance(text, str) else text
    root = ctypes.c_void_p()
    with C.arena(blocks) as arena, at_page_end(data) as address:
        C.check(C.c.ew_json_parse(address, len(data), arena, ctypes.byref(root)))
        return json_value(C.c, root.value)


def refusal(text: bytes | str) -> str:
    with pytest.raises(EngineError) as caught:
        parse(text)
    assert caught.value.status == INVALID_MODEL
    return str(caught.value)


def expected(value: Any) -> Any:
    """A value of Python's json as ours: integers beyond 64 bits are doubles."""
    if isinstance(value, dict):
        return {name: expected(item) for name, item in value.items()}
    if isinstance(value, list):
        return [expected(item) for item in value]
    return float(value) if isinstance(value, int) and value not in INT64 else value


def same(ours: Any, theirs: Any) -> bool:
    """Equal, also in the types of numbers and the sign of zero."""
    return ours == theirs and repr(ours) == repr(sorted_names(theirs))


def sorted_names(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: sorted_names(value[name]) for name in sorted(value, key=str.encode)}
    return [sorted_names(item) for item in value] if isinstance(value, list) else value


VALID = r"""
null
true
false
0
-0
7
-12
9223372036854775807
-9223372036854775808
9223372036854775808
-9223372036854775809
123456789012345678901234567890
0.0
-0.0
1.5
-2.25e3
1E5
1e+05
1e-5
0e0
0.1
12345.678901234567890123456789e-3
2.2250738585072014e-308
4.9406564584124654e-324
2.4703282292062327e-324
2.4703282292062328e-324
1.7976931348623157e308
9007199254740993
9007199254740993.0
1e-99999999999999999999
0e99999999999999999999
-0.000e-5
""
"a"
"\"\\\/\b\f\n\r\t"
"\u0041\u00e9\u20ac\uD83D\ude00\uFFFF"
"é€😀"
[]
{}
 [ ] 
[1,2,3]
[[],[[]],{}]
{"a":1}
{"":""}
{"b":[{"c":null}],"a":{"d":false}}
{"a:b,[c":"],}"}
["\\\"",":"]
""".strip("\n").split("\n")


@pytest.mark.parametrize("text", VALID)
def test_values(text: str) -> None:
    assert same(parse(text), expected(json.loads(text)))
    assert same(parse(f"\t\r\n {text} \n"), expected(json.loads(text)))
    assert same(parse(f'{{"x":[{text},{text}]}}'), {"x": [expected(json.loads(text))] * 2})


@pytest.mark.parametrize("digits", [20, 400, 5000])
def test_long_numbers(digits: int) -> None:
    for text in (
        f"0.{'0' * digits}1e{digits}",
        f"1{'0' * digits}e-{digits}",
        f"0.{'3' * digits}",
        f"{'7' * digits}e-{digits}",
    ):
        assert same(parse(text), float(text))


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 70), 1 << 70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8", exclude_characters="\0")), inner)
    ),
    max_leaves=30,
)


@EXAMPLES
@given(value=VALUES, ascii_only=st.booleans(), indent=st.sampled_from([None, 0, 2, "\t"]))
def test_any_value(value: Any, ascii_only: bool, indent: Any) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    assert same(parse(text), expected(json.loads(text)))


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError("a name twice")
    return dict(pairs)


def refuse_constant(name: str) -> None:
    raise ValueError(name)


def finite(text: str) -> float:
    if math.isinf(float(text)):
        raise ValueError("beyond every double")
    return float(text)


def whole(text: str) -> int:
    finite(text)
    return int(text)


def check_strings(value: Any) -> None:
    for item in [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []:
        check_strings(item)
    if isinstance(value, str) and "\0" in value:
        raise ValueError("a zero character")
    if isinstance(value, str):
        value.encode()  # UnicodeEncodeError: half a surrogate pair


def strict(data: bytes) -> Any:
    """Python's reader, strict like ours; ValueError for what ours must refuse."""
    value = json.loads(
        data.decode(), object_pairs_hook=unique, parse_constant=refuse_constant, parse_float=finite, parse_int=whole
    )
    check_strings(value)
    return value


TOKENS = st.lists(
    st.sampled_from(
        [b"{", b"}", b"[", b"]", b",", b":", b'"', b'"a"', b'"b"', b"1", b"0", b"-", b".", b"e", b"+", b"1e999", b" "]
        + [
            b"\n",
            b"true",
            b"null",
            b"nul",
            b"NaN",
            b"Infinity",
            b"\\",
            b"\\u",
            b"\\n",
            b"\\ud83d",
            b"\\ude00",
            b"\\u0000",
        ]
        + [b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xc3\xa9", b"\xc3", b"\xff", b"\0", b"\x1f", b"/", b"//", b"'"]
    ),
    max_size=8,
).map(b"".join)
SEEDS = [text.encode() for text in VALID] + [b'{"a":[1,2.5e3,"x\\u00e9"],"b":{"c":null,"d":true}}']


@st.composite
def damaged(draw: Any) -> bytes:
    data: bytes = draw(st.sampled_from(SEEDS))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        data = data[:at] + draw(TOKENS) + data[at + draw(st.integers(0, 3)) :]
    return data


@settings(EXAMPLES, max_examples=400)
@given(data=TOKENS | damaged())
def test_accepts_what_python_accepts(data: bytes) -> None:
    try:
        wanted = strict(data)
    except ValueError:
        refusal(data)
    else:
        assert same(parse(data), expected(wanted))


REFUSED = {
    b"": "line 1 column 1: expected a value",
    b" \n ": "line 2 column 2: expected a value",
    b"\xef\xbb\xbf{}": "line 1 column 1: expected a value",
    b"nul": "line 1 column 4: expected null",
    b"True": "line 1 column 1: expected a value",
    b"NaN": "expected a value",
    b"Infinity": "expected a value",
    b"-Infinity": "line 1 column 2: expected a digit",
    b"+1": "expected a value",
    b"01": "line 1 column 2: expected the end",
    b"-01": "expected the end",
    b"1.": "line 1 column 3: expected a digit after the decimal point",
    b".5": "expected a value",
    b"1e": "expected a digit of the exponent",
    b"1e+": "expected a digit of the exponent",
    b"0x10": "expected the end",
    b"1e309": "no double",
    b"-1e309": "no double",
    b"1" + b"0" * 400: "no double",
    b"1e99999999999999999999": "no double",
    b"1_000": "expected the end",
    b"[1,]": "line 1 column 4: expected a value",
    b"[,1]": "line 1 column 2: expected a value",
    b"[1 2]": "line 1 column 4: expected ',' or ']'",
    b"[1": "line 1 column 3: expected ',' or ']'",
    b"[1}": "expected ',' or ']'",
    b"]": "expected a value",
    b"{": "expected a string",
    b"{a:1}": "line 1 column 2: expected a string",
    b'{"a"}': "line 1 column 5: expected ':'",
    b'{"a":}': "expected a value",
    b'{"a":1,}': "line 1 column 8: expected a string",
    b'{"a":1': "expected ',' or '}'",
    b"{1:1}": "expected a string",
    b"{} {}": "line 1 column 4: expected the end",
    b"1\0": "expected the end",
    b'"a': "column 3: expected the string to go on",
    b'"\n"': "expected the string to go on",
    b'"\x1f"': "expected the string to go on",
    b'"\0"': "expected the string to go on",
    b'"\\u0000"': "a zero character",
    b'"\\x41"': "line 1 column 3: expected one of",
    b'"\\': "expected one of",
    b'"\\\0"': "expected one of",
    b'"\\u12g4"': "line 1 column 6: expected a hexadecimal digit",
    b'"\\u12\0\0"': "expected a hexadecimal digit",
    b'"\\ud83d"': "lacks its second half",
    b'"\\ud83dx"': "lacks its second half",
    b'"\\ud83d\\n"': "lacks its second half",
    b'"\\ud83d\\ud83d"': "lacks its second half",
    b'"\\ude00"': "lacks its first half",
    b'"\x80"': "expected UTF-8",
    b'"\xc0\xaf"': "expected UTF-8",
    b'"\xe0\x80\xaf"': "expected UTF-8",
    b'"\xed\xa0\x80"': "expected UTF-8",
    b'"\xf4\x90\x80\x80"': "expected UTF-8",
    b'"\xf8\x88\x80\x80\x80"': "expected UTF-8",
    b'"\xe2\x82"': "expected UTF-8",
    b'"\xe2\x82': "expected UTF-8",
    b"[1] // no": "expected the end",
    b"['a']": "expected a value",
    b'{"a":1,"b":2,"a":3}': "has one name twice: a",
    b'{"a":1,"\\u0061":3}': "has one name twice: a",
    b'[\n{"x":{"a":1},\n"x":2}]': "line 3 column 7: the object that ends here has one name twice: x",
    '{"é":1,\n "é€":?}'.encode(): "line 2 column 7: expected a value",
}


@pytest.mark.parametrize("text", REFUSED, ids=lambda text: ascii(text)[:30])
def test_refused(text: bytes) -> None:
    assert REFUSED[text] in refusal(text)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    pytest.importorskip("onnx", reason="the tiny bundle is made with onnx")
    folder: Path = make_tiny_bundle(tmp_path_factory.mktemp("bundle"))
    return (folder / "manifest.json").read_bytes()


def test_manifest(manifest: bytes) -> None:
    assert same(parse(manifest), json.loads(manifest))


def test_manifest_cut_anywhere(manifest: bytes) -> None:
    for end in range(len(manifest.rstrip())):
        refusal(manifest[:end])


def test_many_names() -> None:
    pairs = ",".join(f'"{name}":{name}' for name in range(100_000, 0, -1))
    assert parse(f"{{{pairs}}}") == {str(name): name for name in range(1, 100_001)}
    start = time.process_time()
    assert "has one name twice: 77" in refusal(f'{{"77":1,{pairs}}}')
    assert time.process_time() - start < 3, "comparing every name with every other"


def test_depth() -> None:
    assert same(parse("[" * 64 + "]" * 64), json.loads("[" * 64 + "]" * 64))
    assert parse("[" + ",".join(['{"a":[[]]}'] * 100) + "]")
    for text in ("[" * 65 + "]" * 65, "[" * 1_000_000, '{"a":' * 65 + "1" + "}" * 65):
        assert "nested too deeply" in refusal(text)


def test_no_memory() -> None:
    with pytest.raises(EngineError) as caught:
        parse("[1]", blocks=0)
    assert caught.value.status == NO_MEMORY
    with pytest.raises(EngineError) as caught:
        parse(f'"{"x" * 100_000}"', blocks=1)
    assert caught.value.status == NO_MEMORY
    assert parse("[1]", blocks=1) == [1]


def test_accessors() -> None:
    c, root = C.c, ctypes.c_void_p()
    text, integer, number = ctypes.c_char_p(b"kept"), ctypes.c_int64(5), ctypes.c_double(0.5)
    source = b'{"s": "x", "i": -3, "r": 2.0, "big": 1e20, "huge": 9223372036854775808, "a": [1], "o": {}, "n": null}'
    with C.arena() as arena:
        C.check(c.ew_json_parse(source, len(source), arena, ctypes.byref(root)))
        at = {
            name: c.ew_json_get(root, name.encode()) for name in ("s", "i", "r", "big", "huge", "a", "o", "n", "none")
        }
        assert at["none"] is None and c.ew_json_get(at["o"], b"x") is None
        for name in ("i", "r", "big", "huge", "a", "o", "n", "none"):
            assert not c.ew_json_string(at[name], ctypes.byref(text))
        for name in ("s", "r", "big", "huge", "a", "o", "n", "none"):
            assert not c.ew_json_int(at[name], ctypes.byref(integer))
        for name in ("s", "a", "o", "n", "none"):
            assert not c.ew_json_number(at[name], ctypes.byref(number))
            assert c.ew_json_get(at[name], b"x") is None and c.ew_json_at(at[name], 1) is None
        assert (text.value, integer.value, number.value) == (b"kept", 5, 0.5)
        assert c.ew_json_string(at["s"], ctypes.byref(text)) and text.value == b"x"
        assert c.ew_json_int(at["i"], ctypes.byref(integer)) and integer.value == -3
        for name, value in (("i", -3.0), ("r", 2.0), ("big", 1e20), ("huge", 2.0**63)):
            assert c.ew_json_number(at[name], ctypes.byref(number)) and number.value == value
        assert c.ew_json_count(root) == 8 and c.ew_json_count(at["a"]) == 1 and c.ew_json_count(None) == 0
        assert c.ew_json_type_of(None) == 0 and c.ew_json_name(root) is None and c.ew_json_name(at["s"]) == b"s"


def test_locale_with_a_comma() -> None:
    before = locale.setlocale(locale.LC_NUMERIC)
    try:
        for name in ("de_DE.UTF-8", "fr_FR.UTF-8", "de_DE"):
            try:
                locale.setlocale(locale.LC_NUMERIC, name)
            except locale.Error:
                continue
            assert locale.localeconv()["decimal_point"] == ","
            assert parse("[1.5, 2.5e3, -0.125]") == [1.5, 2500.0, -0.125]
            return
        pytest.skip("no locale with a decimal comma is installed")
    finally:
        locale.setlocale(locale.LC_NUMERIC, before)
