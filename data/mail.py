"""Mailing list archives (mbox) as conversations: a thread is a document, a message a turn.

Quoted lines and signatures are left out, since what they repeat stands above. A turn names its
writer as the message does, never by address.
"""

import re
from collections.abc import Iterator
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from email.utils import parseaddr
from pathlib import Path

from data.documents import Document, Skip, Skipped
from data.streams import contents

FROM = re.compile(rb"(?:\A|(?<=\n))From [^\n]*\n")
ID = re.compile(r"<[^<>\s]+>")
INTRODUCES = re.compile(r"^(?:On\b.{4,200}\bwrote:|.{1,80} (?:wrote|writes):)$")
REPLY = re.compile(r"^\s*(?:(?:re|aw|fwd?)\s*:\s*)+", re.IGNORECASE)


def mbox(file: Path, name: str, skip: Skip) -> Iterator[Document]:
    """Yield the threads of an mbox file, in the order in which they began.

    A message belongs to the thread of the first message that it refers to. What has no text goes
    to `skip`, each message of it, as does a file that holds none.
    """
    data = contents(file, skip)
    if data is None:
        return
    starts = [*FROM.finditer(data)]
    if not starts:
        skip(Skipped("no messages", str(file)))
        return
    threads: dict[str, list[tuple[str, str]]] = {}  # root: subject and turn of each message
    root_of: dict[str, str] = {}
    ends = [match.start() for match in starts[1:]] + [len(data)]
    for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
        message = BytesParser(policy=policy.default).parsebytes(data[start.end() : end])
        try:
            subject, turn = _turn(message)
            own, *before = _references(message, f"{name}#{number}")
        except Exception as error:  # the library's parser of headers raises all sorts
            skip(Skipped("bad message", f"{file}, message {number}", type(error).__name__))
            continue
        if not turn:
            skip(Skipped("no text", f"{file}, message {number}"))
            continue
        known = next((root_of[i] for i in before if i in root_of), None)
        root = known or (before or [own])[0]
        root_of |= dict.fromkeys((own, *before), root)
        threads.setdefault(root, []).append((subject, turn))
    for root, messages in threads.items():
        subject = REPLY.sub("", messages[0][0])
        turns = [turn for _, turn in messages]
        text = "\n\n".join([f"Subject: {subject}", *turns] if subject else turns)
        metadata = {"turns": len(turns)}
        yield Document(text, f"{name}:{root}", kind="conversations", url=name, metadata=metadata)


def _turn(message: EmailMessage) -> tuple[str, str]:
    """Return a message's subject and turn; '' where it has no plain text."""
    body = message.get_body(preferencelist=("plain",))
    said = _own_words(body.get_content()) if body is not None else ""
    writer, address = parseaddr(str(message.get("From", "")))
    speaker = writer or address.partition("@")[0] or "Speaker"
    subject = " ".join(str(message.get("Subject", "")).split())
    return subject, f"{speaker}: {said}" if said else ""


def _own_words(body: str) -> str:
    """Return a message without quotes, the line that introduces them, and the signature."""
    kept: list[str] = []
    for line in body.splitlines():
        if line.rstrip("\r\n") in ("-- ", "--"):
            break
        if line.startswith(">"):
            while kept and (not kept[-1].strip() or INTRODUCES.match(kept[-1].strip())):
                kept.pop()
        else:
            kept.append(line.rstrip())
    return "\n".join(kept).strip()


def _references(message: EmailMessage, default: str) -> list[str]:
    """Return a message's own id and those that it refers to, the first of the thread first."""
    own = ID.findall(str(message.get("Message-ID", ""))) or [default]
    before = [str(message.get(header, "")) for header in ("References", "In-Reply-To")]
    return [own[0], *ID.findall(" ".join(before))]
