"""SecretFlow SPU in a process of its own.

Parent: engine, joined, child. Child: worker, party, link, lowering, opened. Both: config.
"""
