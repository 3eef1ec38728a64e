"""The MP-ISMoE paper's tables and statements beside what Records say of them."""
