"""Check a set-up from Python, as `eco2 doctor` does: here a small application with two mistakes; runs without keys."""

from __future__ import annotations

import tempfile
from pathlib import Path

from eco2_callbacks.doctor import examine

APPLICATION = """
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

model = ChatOpenAI(model="gpt-5.2", base_url="https://gateway.example/v1", max_retries=0)
embeddings = OpenAIEmbeddings()
"""

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "app.py").write_text(APPLICATION)
        for finding in examine(Path(folder), environ={}):
            print(f"{finding.level:8}{finding.check}: {finding.message}")
            if finding.remedy:
                print(f"{'':8}{finding.remedy}")
