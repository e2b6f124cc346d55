"""SecretFlow SPU in a process of its own. Parent: engine, child. Child: worker, party, link, lowering. Both: config."""
