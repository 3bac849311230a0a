"""Conversations kept as turns: messages, threads with replies, questions and answers, IRC logs.

A turn is 'Speaker: what was said'; turns are separated by an empty line.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data.charset import decode
from data.documents import Document, Skip, Skipped
from data.streams import lines

SPEAKER = ("role", "author", "from", "speaker", "user", "name", "nick")
SAID = ("content", "text", "value", "body", "message", "utterance")
MAX_DEPTH = 100  # of replies to replies
PAUSE = 60  # minutes of silence after which a log becomes another document
MAX_TURNS = 500  # in one document of a log
CLOCK = r"[\[(]?(?P<hour>\d{1,2}):(?P<minute>\d\d)(?::\d\d)?(?:\s*[AaPp][Mm])?[\])]?"
DAY = r"(?:[\[(]?\d{4}-\d\d-\d\d[T ]+)?"
LINE = re.compile(rf"^{DAY}{CLOCK}Z?\s+<[@+%&~ ]?(?P<nick>[^>\s]+)>\s?(?P<said>.*)$")
ACTION = re.compile(rf"^{DAY}{CLOCK}Z?\s+\*\s+(?P<nick>\S+) (?P<said>.*)$")


def turns_of(record: dict[str, Any]) -> list[str] | None:
    """Return the turns of a JSON record, None where it is no conversation."""
    question = record.get("question")
    if isinstance(question, str):
        answers = record.get("answers", record.get("answer"))
        found = [_said(a) for a in (answers if isinstance(answers, list) else [answers])]
        title = record.get("title")
        asked = f"{title}\n\n{question}" if isinstance(title, str) and title else question
        return [f"Question: {asked.strip()}", *(f"Answer: {a.strip()}" for a in found if a)]
    messages = record.get("messages", record.get("turns", record.get("conversations")))
    if not isinstance(messages, list):
        return None
    return list(_thread(messages, 0))


def _thread(messages: list[Any], depth: int) -> Iterator[str]:
    """Yield the turns of messages, each followed by its replies."""
    for message in messages:
        said = _said(message)
        if said and said.strip():
            yield f"{_speaker(message)}: {said.strip()}"
        replies = message.get("replies") if isinstance(message, dict) else None
        if isinstance(replies, list) and depth < MAX_DEPTH:
            yield from _thread(replies, depth + 1)


def _said(message: Any) -> str:
    if isinstance(message, str):
        return message
    values = [message.get(key) for key in SAID] if isinstance(message, dict) else []
    return next((value for value in values if isinstance(value, str)), "")


def _speaker(message: Any) -> str:
    values = [message.get(key) for key in SPEAKER] if isinstance(message, dict) else []
    name = next((value for value in values if isinstance(value, str) and value), "speaker")
    return {"human": "User", "user": "User", "gpt": "Assistant"}.get(name, name.capitalize())


def irc(file: Path, name: str, skip: Skip) -> Iterator[Document]:
    """Yield the talks of an IRC log: lines '[12:34] <nick> text', cut where all were silent.

    Joins, parts and other notices of the server are left out; a file without any such line goes
    to `skip`.
    """
    turns: list[str] = []
    first, last, number, found = 1, None, 0, False

    def talk() -> Iterator[Document]:
        if turns:
            text, place = "\n\n".join(turns), f"{name}:{first}"
            yield Document(
                text, place, kind="conversations", url=name, metadata={"turns": len(turns)}
            )

    for number, line in lines(file, skip):
        text, _ = decode(line)
        match = LINE.match(text.rstrip()) or ACTION.match(text.rstrip())
        if not match or not match["said"].strip():
            continue
        found = True
        minute = int(match["hour"]) * 60 + int(match["minute"])
        silent = last is not None and (minute - last) % (24 * 60) > PAUSE
        if silent or len(turns) >= MAX_TURNS:
            yield from talk()
            turns.clear()
        if not turns:
            first = number
        turns.append(f"{match['nick']}: {match['said'].strip()}")
        last = minute
    yield from talk()
    if number and not found:
        skip(Skipped("no conversation", str(file)))
