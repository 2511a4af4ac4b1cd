"""Encodings: bech32 and JSON that keeps what it was given."""
