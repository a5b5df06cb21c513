"""How fast it is: throughput, peers, and ahead-of-time compilation for TPUs."""
