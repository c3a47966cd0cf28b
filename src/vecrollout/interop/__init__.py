"""Conversions to and from other libraries' objects, one module a library; none is needed until it is asked for."""
