"""Clients of the external services, one module each. Failures are subclasses of ``ServiceError``."""

from __future__ import annotations

from graph.clients.bulk_waste import BulkWaste, Fee
from graph.clients.character import Character, Characters
from graph.clients.character_server import CharacterServer
from graph.clients.errors import (
    ServiceAnswerError,
    ServiceError,
    ServiceRefused,
    ServiceUnavailable,
    ServiceUnconfigured,
    WrongArguments,
)
from graph.clients.kakao import Kakao, Place
from graph.clients.keco import CollectionPoint, Keco
from graph.clients.kma import Forecast, Hour, Kma
from graph.clients.recyclable_price import Price, RecyclablePrices

__all__ = [
    "BulkWaste",
    "Character",
    "CharacterServer",
    "Characters",
    "CollectionPoint",
    "Fee",
    "Forecast",
    "Hour",
    "Kakao",
    "Keco",
    "Kma",
    "Place",
    "Price",
    "RecyclablePrices",
    "ServiceAnswerError",
    "ServiceError",
    "ServiceRefused",
    "ServiceUnavailable",
    "ServiceUnconfigured",
    "WrongArguments",
]
