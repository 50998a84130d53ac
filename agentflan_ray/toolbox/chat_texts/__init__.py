"""Ordinary conversation, written by hand: ``train`` and ``held_out`` share no topic."""
