"""The bare loop: accept, claim, one provider call, finish, and nothing else. What Tidings is divided by.

Durability, stand-in and batch sizes are the product's; features are not. See ``bench/limit/README.md``.
"""
