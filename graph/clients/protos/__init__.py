"""The character service's interface, ``character.proto``, and what protoc made of it: generated, not to be read."""
