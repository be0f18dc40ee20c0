"""The character service's interface, ``character.proto``, and the modules that protoc generates from it."""
