//! What is accepted, what is refused, and what is found.
