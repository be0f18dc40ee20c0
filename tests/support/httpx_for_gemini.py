"""Lets google-genai use httpx in tests: where TaskIQ is installed aiohttp is too, which google-genai would prefer.

Import this module beside ``ChatGoogleGenerativeAI`` where a test sends requests with it.
"""

from __future__ import annotations

from google.genai import _api_client

_api_client.has_aiohttp = False
