"""Speed and throughput, measured on the machine at hand: figures are ratios taken in one run, never tests."""
