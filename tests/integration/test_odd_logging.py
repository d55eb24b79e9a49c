"""However an author configures logging, the service's log has what happened, when, and where."""

import re

from tests.services.logger import CONFIGURE
from tests.support.host import Hosting, found

CONFIG = """
[plugins.logger]
[services.logger]
"""
HEAD = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z WARNING service=logger generation=1 pid=\d+ "


async def test_logging_that_is_configured_anew(host: Hosting) -> None:
    """`runtime.logger` keeps time and service, and each line is there once; so do an author's own
    loggers wherever no other form was asked for; a crash's traceback is always written."""
    running = host(CONFIG, ["logger"])
    async with running.connect() as client:
        service = found(client, "logger")
        for way in CONFIGURE:
            await service.configure(way)
        lines = running.log("logger").splitlines()
        for way in CONFIGURE:
            after = [line for line in lines if line.endswith(f" after {way}")]
            own = [line for line in after if "author after" not in line]
            assert len(own) == 1, way
            assert re.search(HEAD + "logger: after", own[0]), own
        for way in ("basicConfig", "basicConfig with level"):
            assert any(
                re.search(f"{HEAD}author.{way}: author after {way}$", line) for line in lines
            )
        assert "bare author after dictConfig with root" in lines
        pid = running.status("logger")["pid"]
        await service.fail()
    running.until_reborn("logger", pid)
    log = running.log("logger")
    assert "Traceback (most recent call last)" in log
    assert "LookupError: the reason" in log
