"""The tools that call the services, and the loop in which a model calls tools."""

from __future__ import annotations

from graph.tools.bulk_waste import bulk_waste_fees
from graph.tools.calling import call_tools
from graph.tools.collection_point import collection_points
from graph.tools.location import search_places
from graph.tools.recyclable_price import recyclable_prices
from graph.tools.weather import forecast

__all__ = [
    "bulk_waste_fees",
    "call_tools",
    "collection_points",
    "forecast",
    "recyclable_prices",
    "search_places",
]
