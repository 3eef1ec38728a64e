"""Building blocks of side networks: samplers, transformer blocks, one network a stream."""
