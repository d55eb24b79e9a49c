"""The list of all pages, in the order of the navigation."""

from . import (
    actions,
    answers,
    chat,
    death,
    events,
    host,
    logs,
    mail,
    models,
    service,
    services,
    tasks,
)
from .page import Page

PAGES: tuple[Page, ...] = (
    *services.PAGES,
    *service.PAGES,
    *logs.PAGES,
    *events.PAGES,
    *death.PAGES,
    *answers.PAGES,
    *mail.PAGES,
    *tasks.PAGES,
    *models.PAGES,
    *chat.PAGES,
    *host.PAGES,
    *actions.PAGES,
)
