"""Studies of how networks behave: complexity and language-model comparisons, and the flow of gradients."""
