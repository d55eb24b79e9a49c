"""Which messages a platform passes on."""

from typing import Any

import pytest

from garrison.workers import Content, Memory
from garrison.workers.platform.config import PlatformConfig
from garrison.workers.platform.filters import ignored


@pytest.mark.parametrize(
    ("config", "metadata", "channel_type", "why"),
    [
        ({}, {}, "GROUP", ""),
        ({}, {"bot": True}, "GROUP", "bot"),
        ({"ignore_bots": False}, {"bot": True}, "GROUP", ""),
        ({"ignore_bots": False}, {"own": True}, "GROUP", "own"),
        ({"channels": ["c1"]}, {}, "GROUP", ""),
        ({"channels": ["c2"]}, {}, "GROUP", "channel"),
        ({"channels": ["w1"]}, {}, "GROUP", ""),
        ({"channels": ["#general"]}, {"channel_name": "general"}, "GROUP", ""),
        ({"channels": ["general"]}, {"channel_name": "general"}, "GROUP", ""),
        ({"channels": ["c2"]}, {}, "DM", ""),
        ({"ignore_dms": True}, {}, "DM", "direct"),
        ({"ignore_dms": True}, {}, "VOICE_DM", "direct"),
        ({"mentions_only": True}, {}, "GROUP", "not mentioned"),
        ({"mentions_only": True}, {"mentioned": True}, "GROUP", ""),
        ({"mentions_only": True}, {}, "DM", ""),
        ({"channels": ["c2"], "mentions_only": True}, {"mentioned": True}, "", "channel"),
        ({"channels": ["p1"]}, {"parent_id": "p1"}, "GROUP", ""),
        ({"channels": ["#help"]}, {"parent_id": "p1", "parent_name": "help"}, "GROUP", ""),
        ({"channels": ["c2"]}, {"parent_id": "p1", "parent_name": "help"}, "GROUP", "channel"),
        ({"channels": ["c2"], "mentions_only": True}, {"chosen": True}, "GROUP", ""),
        ({}, {"chosen": False}, "GROUP", "channel"),
        ({}, {"chosen": True, "bot": True}, "GROUP", "bot"),
    ],
)
def test_filters(
    config: dict[str, Any], metadata: dict[str, Any], channel_type: str, why: str
) -> None:
    """A direct message needs no mention and no listed channel."""
    content = Content("hi", channel_type=channel_type)
    memory = Memory(id="1", room_id="c1", world_id="w1", content=content, metadata=metadata)

    assert ignored(memory, PlatformConfig(**config)) == why
