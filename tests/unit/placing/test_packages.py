"""Which packages of a node count, and what differs."""

from garrison.supervisor.placing.packages import differences, needed

REQUIRES = {
    "garrison": ["msgspec>=0.19", "openai>=3; extra == 'openai'", "tweepy; extra == 'twitter'"],
    "openai": ["Typing_Extensions<5,>=4", "httpx"],
    "my.bot": ["aiohttp"],
    "msgspec": [],
    "typing-extensions": [],
    "aiohttp": ["openai"],
    "tweepy": [],
    "ruff": [],
}


def test_packages_of_plugins_count_with_their_requirements() -> None:
    """Those of extras only if their plugin is used; what is not installed is left out."""
    assert needed([], REQUIRES, ()) == {"garrison", "msgspec"}
    assert needed([], REQUIRES, {"openai"}) == {
        *("garrison", "msgspec", "openai", "typing-extensions")
    }
    assert needed(["My-Bot"], REQUIRES, ()) == {
        *("garrison", "msgspec", "my-bot", "aiohttp", "openai", "typing-extensions")
    }


def test_what_differs_is_named() -> None:
    """Other versions, missing packages and another Python, of what is needed."""
    here = {"garrison": "1.0", "openai": "3.1", "ruff": "1", "msgspec": "2"}
    there = {"garrison": "1.0", "OpenAI": "3.0", "ruff": "2"}
    names = {"garrison", "openai", "msgspec"}
    assert list(differences("box", here, there, names, ("3.11.7", "3.11.9"))) == [
        "node box lacks msgspec 2",
        "node box has openai 3.0, and this machine 3.1",
    ]
    assert list(differences("box", here, here, names, ("3.11.7", "3.12.1"))) == [
        "node box runs Python 3.12.1, and this machine 3.11.7"
    ]


def test_many_differences_are_counted() -> None:
    """The list is bounded."""
    here = {f"p{number:02}": "1" for number in range(15)}
    found = list(differences("box", here, {}, set(here), ("3.11.7", "")))
    assert len(found) == 11
    assert found[-1] == "node box differs in 5 more packages"
