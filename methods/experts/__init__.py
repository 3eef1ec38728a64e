"""The interactive side mixture-of-experts (ISMoE) of MP-ISMoE."""
