"""The twitter service's decisions: what X's posts, answers and errors mean."""

from typing import Any

import aiohttp
import pytest
import tweepy

from garrison.workers import Media, NotSent, Outgoing, PermanentFailure, RetryLater
from garrison.workers.services.twitter.answer import Answer, status_of
from garrison.workers.services.twitter.client import KEYS, check_tokens, endpoint_of
from garrison.workers.services.twitter.files import File, sendable
from garrison.workers.services.twitter.first_start import first_start
from garrison.workers.services.twitter.incoming import Included, heard_direct, heard_post
from garrison.workers.services.twitter.outcome import Duplicate, as_outcome
from garrison.workers.services.twitter.sender import parent_of

OWN = "7"
NOWHERE: Any = type("Key", (), {"host": "localhost", "port": 1, "ssl": True})()


def refusal(
    kind: type[tweepy.HTTPException],
    status: int,
    body: bytes = b'{"detail": "what X wrote"}',
    headers: dict[str, str] | None = None,
) -> tweepy.HTTPException:
    """Return an exception of the library, as it makes one of an answer."""
    answer = Answer(status, "reason", headers or {}, body)
    return kind(answer, response_json={"detail": "what X wrote"} if b"detail" in body else {})


@pytest.mark.parametrize(
    ("raised", "meant"),
    [
        (refusal(tweepy.Forbidden, 403), NotSent),
        (refusal(tweepy.BadRequest, 400), NotSent),
        (refusal(tweepy.NotFound, 404), NotSent),
        (refusal(tweepy.Forbidden, 403, b"<h1>Cloudflare</h1>"), RetryLater),
        (refusal(tweepy.Unauthorized, 401), RetryLater),
        (refusal(tweepy.HTTPException, 402), RetryLater),
        (refusal(tweepy.TooManyRequests, 429), RetryLater),
        (refusal(tweepy.TwitterServerError, 503, b"<h1>busy</h1>"), tweepy.TwitterServerError),
        (refusal(tweepy.TwitterServerError, 500), tweepy.TwitterServerError),
        (aiohttp.ServerDisconnectedError(), aiohttp.ServerDisconnectedError),
        (TimeoutError(), TimeoutError),
        (ValueError("X answered 201 without JSON"), ValueError),
        (aiohttp.ClientConnectorError(NOWHERE, OSError(111, "refused")), RetryLater),
    ],
)
def test_what_an_exception_means_for_a_message(raised: Exception, meant: type[Exception]) -> None:
    """What is neither refused nor surely unsent stays as it is: uncertain."""
    found = as_outcome(raised, aiohttp)
    assert type(found) is meant
    if isinstance(found, NotSent):
        assert "what X wrote" in str(found)


def test_a_duplicate_is_told_apart() -> None:
    """It is refused, or shows that the post is there."""
    body = {"detail": "You are not allowed to create a Tweet with duplicate content."}
    answer = Answer(403, "Forbidden", {}, b'{"detail": ""}')
    found = as_outcome(tweepy.Forbidden(answer, response_json=body), aiohttp)
    assert isinstance(found, Duplicate)


def test_a_limit_is_waited_for_by_the_server_s_clock() -> None:
    """The reset is read against the date of the same answer."""
    headers = {
        "Date": "Thu, 01 Jan 2026 00:00:00 GMT",
        "x-rate-limit-remaining": "0",
        "x-rate-limit-reset": str(1_767_225_600 + 90),
        "x-user-limit-24hour-remaining": "0",
        "x-user-limit-24hour-reset": str(1_767_225_600 + 3000),
        "x-app-limit-24hour-remaining": "5",
        "x-app-limit-24hour-reset": str(1_767_225_600 + 9000),
    }
    found = as_outcome(refusal(tweepy.TooManyRequests, 429, headers=headers), aiohttp)
    assert isinstance(found, RetryLater)
    assert found.seconds == 3001.0


async def test_an_error_without_json_is_one_of_the_library() -> None:
    """A success without JSON is not: the post may be there."""
    assert await Answer(503, "busy", {}, b"<h1>").json() == {}
    assert await Answer(403, "no", {}, b'{"errors": null}').json() == {"errors": []}
    with pytest.raises(ValueError, match="201 without JSON"):
        await Answer(201, "Created", {}, b'{"data": {"i').json()
    assert status_of(refusal(tweepy.NotFound, 404)) == 404
    assert status_of(TimeoutError()) == 0


def post(**changed: Any) -> dict[str, Any]:
    """Return a post of X that answers another one."""
    return {
        "id": "12",
        "text": "@garrison @ada  Look: https://t.co/a &amp; https://t.co/b",
        "author_id": "9",
        "conversation_id": "10",
        "created_at": "2026-01-01T00:00:00.000Z",
        "lang": "en",
        "referenced_posts": [{"type": "quoted", "id": "3"}, {"type": "replied_to", "id": "11"}],
        "attachments": {"media_keys": ["3_1", "7_1", "missing"]},
        "entities": {
            "urls": [
                {"url": "https://t.co/a", "expanded_url": "https://a.org/?x=1"},
                {"url": "https://t.co/b", "media_key": "3_1"},
            ]
        },
    } | changed


INCLUDED = Included(
    {
        "includes": {
            "users": [{"id": "9", "username": "ada", "name": "Ada L."}],
            "media": [
                {
                    "media_key": "3_1",
                    "type": "photo",
                    "url": "https://p.org/1.png",
                    "alt_text": "a",
                },
                {
                    "media_key": "7_1",
                    "type": "video",
                    "preview_image_url": "https://p.org/2.jpg",
                    "variants": [
                        {"content_type": "application/x-mpegURL", "url": "https://p.org/l.m3u8"},
                        {"content_type": "video/mp4", "url": "https://p.org/s.mp4", "bit_rate": 1},
                        {"content_type": "video/mp4", "url": "https://p.org/l.mp4", "bit_rate": 9},
                    ],
                },
            ],
        }
    }
)


def test_a_mention_as_garrison_takes_it() -> None:
    """The names in front are taken off; addresses are whole; films have their best version."""
    found = heard_post(post(), INCLUDED, OWN)
    memory, content = found.memory, found.memory.content
    assert (found.stream, found.position, memory.id) == ("mentions", "12", "12")
    assert (memory.room_id, memory.entity_id, content.in_reply_to) == ("10", "9", "11")
    assert content.text == "Look: https://a.org/?x=1 &"
    assert content.url == "https://x.com/ada/status/12"
    assert memory.created_at == 1_767_225_600.0
    assert memory.metadata == {
        "name": "Ada L.",
        "username": "ada",
        "own": False,
        "mentioned": True,
        "language": "en",
    }
    assert [(one.url, one.content_type) for one in content.attachments] == [
        ("https://p.org/1.png", "image/png"),
        ("https://p.org/l.mp4", "video/mp4"),
    ]


def test_a_post_with_little_in_it() -> None:
    """An older name of a field counts as well; what is missing is empty."""
    found = heard_post({"id": "5", "text": "@garrison"}, Included({}), OWN).memory
    assert (found.room_id, found.content.text, found.content.in_reply_to) == ("5", "@garrison", "")
    older = post(referenced_posts=None, referenced_tweets=[{"type": "replied_to", "id": "2"}])
    assert heard_post(older, INCLUDED, OWN).memory.content.in_reply_to == "2"
    long = post(note_post={"text": "a long one"})
    assert heard_post(long, INCLUDED, OWN).memory.content.text == "a long one"
    assert heard_post(post(author_id=OWN), INCLUDED, OWN).memory.metadata["own"] is True


@pytest.mark.parametrize(
    ("event", "room"),
    [
        ({"sender_id": "9", "dm_conversation_id": "7-9"}, "dm:9"),
        ({"sender_id": "7", "dm_conversation_id": "7-9"}, "dm:9"),
        ({"sender_id": "9", "dm_conversation_id": "1234567"}, "dm:1234567"),
        ({"sender_id": "9", "dm_conversation_id": "7-8-9"}, None),
        ({"sender_id": "9", "dm_conversation_id": ""}, None),
        ({"sender_id": "9", "dm_conversation_id": "7-9", "event_type": "JoinConversation"}, None),
    ],
)
def test_direct_messages_are_those_of_one_person(event: dict[str, Any], room: str | None) -> None:
    """Groups are passed over."""
    common = {"id": "5", "event_type": "MessageCreate", "text": "hello"}
    found = heard_direct(common | event, INCLUDED, OWN)
    assert (found.memory.room_id if found else None) == room


def outgoing(**changed: Any) -> Outgoing:
    """Return a part that is sent."""
    fields: dict[str, Any] = {
        "id": "1",
        "nonce": "n",
        "channel": "10",
        "text": "text",
        "part": 0,
        "parts": 1,
        "reply_to": None,
        "attachments": [],
        "began": 0.0,
        "unsure": False,
    }
    return Outgoing(**fields | changed)


@pytest.mark.parametrize(
    ("changed", "parent"),
    [
        ({"answers": "12"}, "12"),
        ({"answers": "12", "part": 1, "previous": "13"}, "13"),
        ({"answers": "12", "part": 1, "previous": ""}, "12"),
        ({"answers": "12", "part": 1, "previous": "an/id/of/ours"}, "12"),
        ({}, "10"),
        ({"channel": "timeline"}, ""),
        ({"channel": "timeline", "part": 1, "previous": "13"}, "13"),
    ],
)
def test_what_a_part_replies_to(changed: dict[str, Any], parent: str) -> None:
    """A thread hangs together, whatever is known of its parts."""
    assert parent_of(outgoing(**changed)) == parent


def test_a_channel_that_is_none() -> None:
    """The reason says what a channel is."""
    with pytest.raises(NotSent, match="'timeline', the number of a conversation"):
        parent_of(outgoing(channel="#general"))


def test_attachments_are_uploaded_or_linked() -> None:
    """Data is uploaded; an address stays one."""
    found = sendable([Media("data:image/png;base64,eHk="), Media("https://a.org/b.pdf")], 10)
    assert found == ([File("image/png", b"xy")], ["https://a.org/b.pdf"])
    assert File("image/gif", b"").category(False) == "tweet_gif"
    assert File("video/mp4", b"").category(True) == "dm_video"


@pytest.mark.parametrize(
    ("attachments", "why"),
    [
        ([Media("/etc/passwd")], "not '/etc/passwd'"),
        ([Media("data:image/png;base64,%%%")], "damaged"),
        ([Media("data:image/png")], "no data"),
        ([Media("data:image/png,x23456789ab")], "attachment_bytes is 10"),
        ([Media("data:text/plain,x")], "not a file of type 'text/plain'"),
        ([Media("data:image/png,x")] * 5, "at most 4 images"),
        ([Media("data:video/mp4,x"), Media("data:image/png,x")], "one film"),
    ],
)
def test_attachments_that_cannot_be_sent(attachments: list[Media], why: str) -> None:
    """No path is opened, and the reason reaches the sender."""
    with pytest.raises(NotSent, match=why):
        sendable(attachments, 10)


def test_missing_tokens_are_named_with_their_place() -> None:
    """All that are missing at once."""
    tokens = dict.fromkeys(KEYS, "x") | {KEYS[1]: "", KEYS[3]: ""}
    with pytest.raises(PermanentFailure, match=f"no {KEYS[1]}, {KEYS[3]}: .*developer.x.com"):
        check_tokens(tokens)


def test_endpoints_are_named_without_ids() -> None:
    """Their limits are those of all ids."""
    url = "https://api.twitter.com/2/users/7/mentions?since_id=5"
    assert endpoint_of("GET", url) == "GET users * mentions"


def test_the_first_start_is_recorded_once(tmp_path: Any) -> None:
    """A clock that was set back does not put it into the future."""
    assert first_start(tmp_path, 1000.5) == 1000.5
    assert first_start(tmp_path, 2000.0) == 1000.5
    assert first_start(tmp_path, 900.0) == 900.0
    (tmp_path / "first-start").write_text("half of a")
    assert first_start(tmp_path, 3000.0) == 3000.0
    assert first_start(tmp_path, 4000.0) == 3000.0
