"""Rows: what they are, the formats and containers that they are read from, and how they are given back."""
