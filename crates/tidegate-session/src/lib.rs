//! Who is talking: session ids, the session store, and resolving calls to sessions.
