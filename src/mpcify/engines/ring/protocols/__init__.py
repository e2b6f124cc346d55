"""The protocols, one small class each: what the dealer prepares, what each party computes, and what they say.

Letters as in the docs: x₀, x₁, x₂ are the parts of client, owner and dealer (`values`); K is a ring, T a truncation,
κ = K − T; D₀ and D₁ are words that client and owner each draw with the dealer. "Bits" are sent a value; what is dealt
goes from the dealer to the owner alone, since the client draws its share of everything.
"""
