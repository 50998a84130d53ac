"""Negatives in a teacher's words: optional, and nothing else in a corpus depends on it.

``recipe`` says what is asked for, ``request`` how, ``endpoint`` and ``local`` of whom, ``replies`` keeps what was
paid for, ``rejection`` decides what may be learnt, and ``rewrite`` puts it together.
"""
