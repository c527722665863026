"""From an exported graph with its marks to one program for each call of a module.

`placeholders` says what the graph's inputs stand for, `frames` sorts its nodes into the calls of
modules, `builders` writes the program of each call, and `lower` puts the three together.
"""
