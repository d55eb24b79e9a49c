"""Config keys of the twitter service. Durations are seconds."""

from typing import Annotated

import msgspec

from garrison.workers import Platform

DAY = 86_400.0
IMAGE_BYTES = 5 * 1024 * 1024  # X's own limit for an image

Interval = Annotated[float, msgspec.Meta(gt=0, le=DAY)]
Count = Annotated[int, msgspec.Meta(ge=0)]


class Config(Platform.Config, kw_only=True):
    """`[services.twitter.config]`."""

    poll: Interval = 60.0  # between requests for mentions, while there are any
    poll_idle: Interval = 300.0  # likewise, when there have been none for a while
    monthly_reserve: Count = 100  # of the posts that may be read in a month; below it, none is read
    direct_messages: bool = False  # read and answer them as well
    attachment_bytes: Count = IMAGE_BYTES  # of a file that is sent
    probe: Annotated[float, msgspec.Meta(ge=0, le=DAY)] = 0.0  # each poll shows that X answers
