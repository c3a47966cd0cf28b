"""Conversions to and from other libraries' objects, one module a library."""
