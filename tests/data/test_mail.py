"""Mailing list archives: threads as turns, whatever the messages are made of."""

from email.message import EmailMessage
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from data.documents import Skips
from data.readers import read


def message(writer: str, body: str, own: str, *before: str, subject: str = "Seeds") -> bytes:
    mail = EmailMessage()
    mail["From"] = writer
    mail["Subject"] = ("Re: " if before else "") + subject
    mail["Message-ID"] = f"<{own}>"
    if before:
        mail["In-Reply-To"] = f"<{before[-1]}>"
        mail["References"] = " ".join(f"<{b}>" for b in before)
    mail.set_content(body)
    return b"From a@b Thu Jan  1 00:00:00 2024\n" + mail.as_bytes() + b"\n"


def archive(folder: Path, *messages: bytes) -> Path:
    file = folder / "list.mbox"
    file.write_bytes(b"".join(messages))
    return file


def test_threads_are_documents_and_messages_turns(tmp_path: Path) -> None:
    other = message("Cy <cy@a.example>", "Unrelated.", "9", subject="Other")
    file = archive(
        tmp_path,
        message("Ann <ann@a.example>", "Which seed?\n\n-- \nAnn, somewhere", "1"),
        other,
        message("bo@b.example", "On Monday Ann wrote:\n> Which seed?\n\nCaf\u00e9 0.", "2", "1"),
        message("Ann <ann@a.example>", "Thanks.\n\n> Caf\u00e9 0.", "3", "1", "2"),
    )
    documents = list(read(file))
    assert [d.text for d in documents] == [
        "Subject: Seeds\n\nAnn: Which seed?\n\nbo: Caf\u00e9 0.\n\nAnn: Thanks.",
        "Subject: Other\n\nCy: Unrelated.",
    ]
    assert [d.metadata["turns"] for d in documents] == [3, 1]
    assert {d.kind for d in documents} == {"conversations"}
    assert "a.example" not in documents[0].text


def test_a_reply_whose_first_message_is_missing_starts_the_thread(tmp_path: Path) -> None:
    file = archive(
        tmp_path, message("A <a@a>", "one", "2", "1"), message("B <b@b>", "two", "3", "1", "2")
    )
    (document,) = read(file)
    assert document.text == "Subject: Seeds\n\nA: one\n\nB: two"


def test_what_is_no_message_is_counted(tmp_path: Path) -> None:
    skips = Skips()
    empty = message("A <a@a>", "> only a quote", "1")
    charset = b"From x\nFrom: a@b\nContent-Type: text/plain; charset=none-such\n\nhello\n"
    assert list(read(archive(tmp_path, empty, charset), skips=skips)) == []
    (tmp_path / "list.mbox").write_bytes(b"not mail at all\n")
    assert list(read(tmp_path, skips=skips)) == []
    assert skips.counts["no messages"] == 1 and skips.counts["no text"] >= 1
    assert skips.total == 3


@given(st.lists(st.binary(max_size=200), max_size=4))
def test_no_bytes_are_a_crash(tmp_path_factory, parts: list[bytes]) -> None:
    file = tmp_path_factory.mktemp("mail") / "a.mbox"
    file.write_bytes(b"".join(b"From x\n" + part + b"\n" for part in parts))
    skips = Skips()
    documents = list(read(file, skips=skips))
    assert all(d.text.strip() for d in documents)
