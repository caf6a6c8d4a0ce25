//! Integration tests: a real Postgres, the simulated API, a fixed clock and dice.
