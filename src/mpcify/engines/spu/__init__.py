"""SecretFlow SPU in a process of its own. Parent: engine, child. Child: worker, parties, lowering. Both: config."""
