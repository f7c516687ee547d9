import sys

import pytest

from xtrace_sdk.cli.xvec.files import TYPES, UnreadableFileError, read_texts
from xtrace_sdk.errors import InputError


@pytest.fixture
def read(tmp_path):
    def read(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_texts(path)

    return read


def test_plain_text(read):
    assert read("a.txt", "one\n\ntwo") == ["one\n\ntwo"]
    assert read("a.MD", b"\xef\xbb\xbfwith a byte order mark") == ["with a byte order mark"]
    assert read("a.txt", " \n") == []


def test_json(read):
    assert read("a.json", '["one", "", {"a": "\\u00e9"}]') == ["one", '{\n "a": "é"\n}']
    assert read("a.json", '{"a": 1}') == ['{\n "a": 1\n}']


def test_csv(read):
    assert read("a.csv", 'name,says\r\nA,"x,\ny"\r\nB,\r\n') == ["name: A\nsays: x,\ny", "name: B"]
    assert read("a.csv", "name\nA,extra,more\n") == ["name: A\nextra, more"]
    assert read("a.csv", "name\n") == []


def test_html(read):
    page = (
        "<!doctype html><title>Ti&amp;tle</title><style>p{}</style><script>if (a<b) x()</script>"
        "<h1>Head</h1><p>one <b>bold</b>\nline<br>next</p><ul><li>item</li></ul>"
        "<template>no</template>&eacute;"
    )
    assert read("a.html", page) == ["Ti&tle\nHead\none bold line\nnext\nitem\né"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"\xff", "not UTF-8"),
        ("a.json", "{", "not JSON"),
        ("a.json", "[" * 100_000, "not JSON"),
        ("a.csv", 'a\n"open', "not CSV"),
        ("a.html", b"\xff", "not UTF-8"),
    ],
)
def test_malformed(read, name, content, message):
    with pytest.raises(UnreadableFileError, match=message) as caught:
        read(name, content)
    assert name in str(caught.value)


def test_other_types(read, tmp_path):
    with pytest.raises(InputError, match="expected a file of type txt, md, json, csv, html, htm, pdf"):
        read("a.exe", "x")
    with pytest.raises(UnreadableFileError, match="No such file"):
        read_texts(tmp_path / "missing.txt")
    assert TYPES == ("txt", "md", "json", "csv", "html", "htm", "pdf")


def pdf(text):
    """The smallest PDF with one line of text, written out by hand."""
    stream = f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET".encode()
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R /Resources 6 0 R >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        b"<< /Font << /F1 5 0 R >> >>",
    ]
    body, offsets = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        offsets.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    head = b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    trailer = b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF" % (len(objects) + 1, len(body))
    return body + head + table + trailer


def test_pdf(read):
    pytest.importorskip("pypdf")
    assert read("a.pdf", pdf("Hello from a page")) == ["Hello from a page"]
    with pytest.raises(UnreadableFileError, match="not PDF"):
        read("b.pdf", b"not a pdf at all")


def test_pdf_without_the_extra(read, monkeypatch):
    monkeypatch.setitem(sys.modules, "pypdf", None)
    with pytest.raises(InputError, match=r"xtrace-sdk-native\[cli,pdf\]"):
        read("a.pdf", pdf("x"))
