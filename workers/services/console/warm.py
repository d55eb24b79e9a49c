"""Warms the console's libraries in the launcher, so that its worker shares their memory."""

import asyncio.subprocess
import ipaddress
import json

import jinja2
import starlette.applications
import starlette.staticfiles
import uvicorn
import uvicorn.lifespan.off
import uvicorn.protocols.http.h11_impl

from . import running
from .rendering import TEMPLATES

WARMED = (asyncio.subprocess, ipaddress, json, jinja2, starlette, uvicorn, running)


def _warm() -> None:
    TEMPLATES.load()
    TEMPLATES.page("outside.html", {"text": "", "at": "/"})


_warm()
